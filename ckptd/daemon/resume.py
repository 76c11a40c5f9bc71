"""Before a start: from which checkpoint, and whether the program is still the one that made it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ckptd.errors import DamagedError, RefusedError, UsageError
from ckptd.store import index, reader
from ckptd.store.index import Entry
from ckptd.store.job import JobRecord
from ckptd.store.layout import JobFolder
from ckptd.store.manifest import Manifest
from ckptd.store.verify import verify_checkpoint

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Base:
    """What a start goes on from."""

    path: Path | None = None
    """The checkpoint; None: from the beginning."""
    manifest: Manifest | None = None
    notes: list[str] = field(default_factory=list)
    """What the user must read: damaged checkpoints, changed sources."""
    memory: Path | None = None
    """The segment that it was written from, if that is still there."""
    older: Entry | None = None
    """The checkpoint before it, as its manifest has it."""
    branch: tuple[int, int] = (0, 0)
    """How often ``--from`` was used on the job, this time included, and the step it went back to last."""

    @property
    def step(self) -> int:
        """The step it goes on from, 0 for the beginning."""
        return self.manifest.step if self.manifest else 0

    @property
    def hashseed(self) -> str:
        """PYTHONHASHSEED of the run that it is of, by which sets of strings have their order; '' if unknown."""
        found = self.manifest.facts.get("hashseed") if self.manifest else None
        return found if isinstance(found, str) else ""


def find_base(
    folder: JobFolder, allow_changed: bool, from_step: int | None = None, *, read: bool = True
) -> Base:
    """Verify the newest checkpoint, or the one at ``from_step``, and compare the sources.

    ``read``: every byte of it, which is slow; else whoever resumes from it has to.

    Raises:
        DamagedError: there are checkpoints, but none is whole; or the one at ``from_step`` is not.
        RefusedError: a source changed, and that isn't allowed.
        UsageError: there is none at ``from_step``.
    """
    listed = index.entries(folder)
    found = _newest(folder, read) if from_step is None else _at(folder, listed, from_step, read)
    if found is None:
        return Base()
    path, manifest, notes = found
    notes += _unchanged(manifest, allow_changed)
    names = [entry.path.name for entry in listed]
    before = listed[: names.index(path.name)] if path.name in names else []
    branch = (manifest.branch, manifest.branch_step)
    newer = [entry for entry in listed if entry.good and entry.step > manifest.step]
    if from_step is not None and before != listed[:-1]:
        branch = (max(entry.branch for entry in listed) + 1, manifest.step)
        if newer:
            notes.append(
                f"--from {from_step}: later checkpoints, up to step {max(e.step for e in newer)}, stay until the job "
                "has come as far again; until it has saved once, the command without --from still goes on from there"
            )
    older = next((entry for entry in reversed(before) if entry.good), None)
    return Base(path, manifest, notes, older=older, branch=branch)


_Start = tuple[Path, Manifest, list[str]]
"""A checkpoint, its manifest, and what the user must read."""


def _newest(folder: JobFolder, read: bool) -> _Start | None:
    found = reader.newest_valid(folder, data=read)
    if found is None:
        return None
    notes = [
        f"checkpoint {path.name} is damaged ({why}): going back to step {found.manifest.step}"
        for path, why in found.skipped
    ]
    return found.path, found.manifest, notes


def _at(folder: JobFolder, listed: Sequence[Entry], step: int, read: bool) -> _Start:
    """The latest checkpoint at a step: that very one, or none."""
    matching = [entry for entry in listed if entry.step == step]
    if not matching:
        steps = sorted({entry.step for entry in listed}, key=lambda other: (abs(other - step), other))[:5]
        near = f"there are {', '.join(map(str, sorted(steps)))}" if steps else "it has none at all"
        raise UsageError(f"--from {step}: job {folder.id} has no checkpoint at that step; {near}")
    path = matching[-1].path
    try:
        return path, verify_checkpoint(path, data=read), []
    except DamagedError as error:
        raise DamagedError(f"--from {step}: {error}; choose another step (ckptd ls shows them)") from error


def _unchanged(manifest: Manifest, allow_changed: bool) -> list[str]:
    """Compare the sources; what there is to say if they changed. Raises RefusedError."""
    changed = changed_sources(manifest)
    if not changed:
        return []
    what = _listing(changed)
    if not allow_changed:
        raise RefusedError(
            f"{what} changed since the checkpoint at step {manifest.step}: "
            "start over with --fresh, or resume all the same with --allow-changed"
        )
    return [f"{what} changed since the checkpoint at step {manifest.step}, as allowed"]


def refusal(why: str, base: Base, *, resumed: bool = False) -> str:
    """The agent's reason not to resume from ``base``, or (``resumed``) not to go on, and what the user can do."""
    if "--fresh" in why:
        return why
    what = f"step {base.step} can't be resumed, nothing was changed: {why}; start over with --fresh"
    if resumed:
        what = f"the job can't go on from step {base.step}: {why}; start over with --fresh"
    if base.older is not None and base.path is not None:
        what += f", or go on from step {base.older.step} with --from {base.older.step}"
    return what


def changed_sources(manifest: Manifest) -> list[str]:
    """Source files that are not what they were, by the hashes in the manifest's facts."""
    sources: Any = manifest.facts.get("sources", {})
    folder = Path(str(manifest.facts.get("cwd") or "."))
    if not isinstance(sources, dict):
        return []
    return sorted(str(name) for name, digest in sources.items() if _sha256(folder / str(name)) != digest)


def same_command(record: JobRecord, argv: Sequence[str], cwd: str) -> None:
    """A job of a given name goes on only as the command that it was. Raises RefusedError."""
    if record.argv != list(argv):
        was, now = " ".join(record.argv), " ".join(argv)
        raise RefusedError(
            f"job {record.name!r} was begun as '{was}', this is '{now}': "
            "start over with --fresh, or resume all the same with --allow-changed"
        )
    if record.cwd != cwd:
        raise RefusedError(
            f"job {record.name!r} was begun in {record.cwd}: go there, start over with --fresh, "
            "or resume here all the same with --allow-changed"
        )


def _listing(names: list[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError:
        return ""  # gone or unreadable: it is not what it was
    return digest.hexdigest()

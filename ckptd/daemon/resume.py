"""Before a start: from which checkpoint, and whether the program is still the one that made it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ckptd.errors import RefusedError
from ckptd.store import reader
from ckptd.store.job import JobRecord
from ckptd.store.layout import JobFolder
from ckptd.store.manifest import Manifest
from ckptd.store.reader import Listed

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Base:
    """What a start goes on from."""

    path: Path | None = None
    """The checkpoint; None: from the beginning."""
    manifest: Manifest | None = None
    notes: list[str] = field(default_factory=list)
    """What the user must read: damaged checkpoints, changed sources."""
    older: Listed | None = None
    """The checkpoint before it, as its manifest has it."""

    @property
    def step(self) -> int:
        """The step it goes on from, 0 for the beginning."""
        return self.manifest.step if self.manifest else 0


def find_base(folder: JobFolder, allow_changed: bool) -> Base:
    """Verify the newest checkpoint and compare the sources. Slow: reads all of it.

    Raises:
        DamagedError: there are checkpoints, but none is whole.
        RefusedError: a source changed, and that isn't allowed.
    """
    found = reader.newest_valid(folder)
    if found is None:
        return Base()
    notes = [
        f"checkpoint {path.name} is damaged ({why}): going back to step {found.manifest.step}"
        for path, why in found.skipped
    ]
    changed = changed_sources(found.manifest)
    if changed:
        what = _listing(changed)
        if not allow_changed:
            raise RefusedError(
                f"{what} changed since the checkpoint at step {found.manifest.step}: "
                "start over with --fresh, or resume all the same with --allow-changed"
            )
        notes.append(f"{what} changed since the checkpoint at step {found.manifest.step}, as allowed")
    before: Listed | None = None
    for listed in reader.list_checkpoints(folder):
        if listed.path == found.path:
            break
        before = listed if listed.manifest is not None else before
    return Base(found.path, found.manifest, notes, before)


def refusal(why: str, base: Base) -> str:
    """The agent's reason not to resume from ``base``, with what the user can do about it."""
    if "--fresh" in why:
        return why
    what = f"step {base.step} can't be resumed, nothing was changed: {why}; start over with --fresh"
    if base.older is not None and base.path is not None:
        what += f", or go on from step {base.older.step}: move {base.path} out of its folder"
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

"""What goes at a remote: what the store's policy lets go there too, and what no checkpoint refers to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ckptd.remote.job import Entry, RemoteJob
from ckptd.store import index
from ckptd.store.pins import read_mark
from ckptd.store.retention import Mark, Policy, decide


@dataclass
class Cleared:
    """What a removal at a remote did."""

    checkpoints: list[str] = field(default_factory=list)
    """Their names."""
    objects: dict[str, int] = field(default_factory=dict)
    """Pieces that went, with their lengths."""

    @property
    def nbytes(self) -> int:
        """What was freed."""
        return sum(self.objects.values())


def retain(job: RemoteJob, policy: Policy, local: Path, may: Callable[[], None] = lambda: None) -> Cleared:
    """Remove checkpoints that the policy lets go, and earlier runs' once the present one has its ``latest``.

    ``local``: the folder of the job's checkpoints in the store, whose marks count too. ``may`` raises if the
    job is not ours any more. A checkpoint that can't be read stays, with all pieces. Raises RemoteError.
    """
    for name in job.backend.leftovers(job.place):
        job.backend.remove(name)
    entries, errors = job.entries()
    if errors:
        return Cleared()  # which pieces they need isn't known
    latest = job.latest()
    now = next((entry for entry in entries if entry.name == latest), None)
    if now is None:
        return Cleared()
    present = [entry for entry in entries if entry.begun == now.begun]
    marks = {entry.manifest.id: _mark(entry, local) for entry in entries}
    verdicts = decide([index.entry_of(Path(e.name), e.manifest) for e in present], policy, marks)
    going = {verdict.entry.path.name for verdict in verdicts if not verdict.keep}
    going |= {e.name for e in entries if e.begun < now.begun and not marks[e.manifest.id].pinned}
    # What is later than latest, somebody has a reason for.
    gone = [entry for entry in entries if entry.name in going and entry.order < now.order]
    return remove(job, gone, [entry for entry in entries if entry not in gone], may)


def _mark(entry: Entry, local: Path) -> Mark:
    path = local / entry.name
    return read_mark(path) if path.is_dir() else entry.mark


def remove(
    job: RemoteJob, gone: Sequence[Entry], kept: Sequence[Entry], may: Callable[[], None] = lambda: None
) -> Cleared:
    """Remove checkpoints, then the pieces that only they have. Raises RemoteError."""
    done = Cleared()
    for entry in gone:
        may()
        job.backend.remove(job.path(f"checkpoints/{entry.name}.json"))
        done.checkpoints.append(entry.name)
    still = {name for entry in kept for name in entry.pieces()}
    for entry in gone:
        for name, piece in entry.pieces().items():
            if name not in still and name not in done.objects:
                job.backend.remove(job.path(name))
                done.objects[name] = piece.nbytes
    return done


def unreferenced(job: RemoteJob) -> dict[str, int]:
    """Pieces that no listed checkpoint has, and what killed writers left, with their lengths.

    The job must be held while they are removed. Raises RemoteError, and the error of a checkpoint that can't
    be read: its pieces aren't known.
    """
    found = job.objects()
    entries, errors = job.entries()
    for error in errors.values():
        raise error
    wanted = {name for entry in entries for name in entry.pieces()}
    cut = len(job.place) + 1
    left = {name[cut:]: size for name, size in job.backend.leftovers(job.place).items()}
    return {name: size for name, size in found.items() if name not in wanted} | left


def prune(job: RemoteJob) -> Cleared:
    """Remove what no checkpoint refers to; see ``unreferenced``."""
    done = Cleared()
    for name, size in unreferenced(job).items():
        job.backend.remove(job.path(name))
        done.objects[name] = size
    return done

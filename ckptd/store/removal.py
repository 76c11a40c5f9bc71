"""Taking checkpoints away: never the newest that is whole, nor one that somebody reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from ckptd.errors import CkptdError, DamagedError, NoStoreError
from ckptd.store import disk, index
from ckptd.store.hold import alone, keep
from ckptd.store.index import Entry
from ckptd.store.layout import JobFolder
from ckptd.store.leftovers import freed_by
from ckptd.store.pins import read_mark, read_marks
from ckptd.store.retention import Policy, Verdict, decide
from ckptd.store.seen import Seen
from ckptd.store.verify import verify_checkpoint

SPARE = 1.25
"""How many times what the last checkpoint wrote is to be free for the next."""


@dataclass
class Removed:
    """What a removal did."""

    gone: list[Path] = field(default_factory=list)
    held: list[Path] = field(default_factory=list)
    """Not removed: somebody reads them."""
    marked: list[Path] = field(default_factory=list)
    """Not removed: somebody has pinned or tagged them meanwhile."""
    room: list[Path] = field(default_factory=list)
    """Those among ``gone`` that the policy would have kept: room was needed."""
    freed: dict[Path, int] = field(default_factory=dict)
    """Bytes that went with each of ``gone``."""
    missing: int = 0
    """Bytes that are still missing for the next checkpoint."""


def remove(folder: JobFolder, paths: Sequence[Path], policy: Policy | None = None) -> Removed:
    """Take the names of checkpoints away, durably, and only then their files: a kill in between tears nothing.

    With a policy, what is pinned or has one of its tags stays, though that were done at this very moment.
    Raises NoStoreError.
    """
    done = Removed()
    trash: list[Path] = []
    try:
        if paths:
            disk.make_folder(folder.work)
        for path in paths:
            with alone(path) as free:
                if not free:
                    done.held.append(path)
                    continue
                if policy is not None and _marked(path, policy):
                    done.marked.append(path)
                    continue
                place = folder.work / f"removed-{path.name}-{os.urandom(4).hex()}"
                try:
                    path.rename(place)
                except FileNotFoundError:
                    continue  # another process was faster
                trash.append(place)
                done.gone.append(path)
                done.freed[path] = freed_by(place)
        if trash:
            disk.sync_folder(folder.checkpoints)
    except OSError as error:
        raise NoStoreError(
            f"old checkpoints in {folder.checkpoints} can't be removed: {disk.reason(error)}"
        ) from error
    finally:
        for place in trash:
            disk.remove_folder(place)  # what stays is swept by the next writer
    return done


def _marked(path: Path, policy: Policy) -> bool:
    mark = read_mark(path)
    return mark.pinned or bool(set(mark.tags) & set(policy.tags))


def newest_whole(
    entries: Sequence[Entry], check: Callable[[Path], object] = verify_checkpoint
) -> Entry | None:
    """The newest checkpoint whose every byte is right; None if there is none. Raises RefusedError."""
    for entry in reversed(entries):
        try:
            check(entry.path)
        except DamagedError:
            continue
        return entry
    return None


def plan(folder: JobFolder, policy: Policy) -> list[Verdict]:
    """What the policy makes of the checkpoints of a job, oldest first. Raises DamagedError."""
    found = index.entries(folder)
    return decide(found, policy, read_marks(found))


def _plan(folder: JobFolder, policy: Policy, seen: Seen | None) -> list[Verdict]:
    """The same, but of those that stay anyway it isn't looked whether they are pinned too."""
    found = seen.entries() if seen is not None else index.entries(folder)
    first = decide(found, policy)
    marks = read_marks(v.entry for v in first if not v.keep)
    return decide(found, policy, marks) if marks else first


def forget(folder: JobFolder, policy: Policy, verdicts: Sequence[Verdict], whole: Entry | None) -> Removed:
    """Remove what goes, but never ``whole``, the newest that is known to be so, which nobody else removes meanwhile.

    Raises NoStoreError, and DamagedError if somebody has removed ``whole``.
    """
    with keep(whole.path) if whole is not None else nullcontext():
        return remove(folder, [v.entry.path for v in verdicts if not v.keep and v.entry is not whole], policy)


def retain(folder: JobFolder, policy: Policy, newest: Path, needed: int, seen: Seen | None = None) -> Removed:
    """What follows a commit: what the policy lets go is removed, and where the disk runs low, more.

    ``newest`` was just committed and stays. ``needed``: bytes that are to be free for the next checkpoint.
    Beyond the policy go only checkpoints that nothing but ``--keep-last`` keeps, oldest first, and none
    more than it takes. ``seen``: what the caller knows of them already. Raises CkptdError.
    """
    verdicts = _plan(folder, policy, seen)
    done = remove(folder, [v.entry.path for v in verdicts if not v.keep and v.entry.path != newest], policy)
    weak = (v.entry.path for v in verdicts if v.weak and v.entry.path != newest)
    _make_room(folder, policy, weak, needed, done)
    _tidy(folder, verdicts, set(done.gone))
    return done


def make_room(folder: JobFolder, policy: Policy, newest: Path | None, needed: int) -> Removed:
    """The same where a commit has found the disk full. Raises CkptdError."""
    verdicts = _plan(folder, policy, None)
    stays = newest or next((v.entry.path for v in reversed(verdicts) if v.entry.good), None)
    done = remove(folder, [v.entry.path for v in verdicts if not v.keep and v.entry.path != stays], policy)
    _make_room(
        folder, policy, [v.entry.path for v in verdicts if v.weak and v.entry.path != stays], needed, done
    )
    return done


def _make_room(folder: JobFolder, policy: Policy, weak: Iterable[Path], needed: int, done: Removed) -> None:
    """Remove one after the other until enough is free."""
    if free_bytes(folder.path) >= needed:
        return
    for path in weak:
        if free_bytes(folder.path) >= needed:
            return
        more = remove(folder, [path], policy)
        done.gone += more.gone
        done.room += more.gone
        done.freed.update(more.freed)
        done.held += more.held
    done.missing = max(0, needed - free_bytes(folder.path))


def free_bytes(path: Path) -> int:
    """What can be written on the file system of ``path``; 0 if that can't be told."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0


def _tidy(folder: JobFolder, verdicts: Sequence[Verdict], gone: set[Path]) -> None:
    """Keep the cache for listings from growing without end."""
    try:
        size = (folder.path / index.INDEX).stat().st_size
        if size > 1 << 16 and size > 2 * (len(verdicts) - len(gone)) * LINE_BYTES:
            kept = [v.entry for v in verdicts if v.entry.path not in gone]
            index.rewrite(folder, [entry for entry in kept if entry.path.is_dir()])
    except (OSError, CkptdError):
        return  # it is only a cache


LINE_BYTES = 400
"""About the length of a line in it."""

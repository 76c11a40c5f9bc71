"""What must be so of a store whatever has happened to the process that wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ckptd.daemon.places import SegmentFolder
from ckptd.remote.journal import JOURNAL
from ckptd.store import index, layout
from ckptd.store.leftovers import EARLIER, prune_job
from ckptd.store.lock import holder
from ckptd.store.manifest import MANIFEST
from ckptd.store.pins import PIN, read_mark
from ckptd.store.reader import OpenCheckpoint, list_checkpoints, newest_valid
from ckptd.store.sweep import sweep
from ckptd.store.verify import verify_checkpoint
from torture.work import JOB, Setting, contents, graph

_FILE = re.compile(r"storages\.msgpack|graph\.msgpack(\.zst)?|(tensors|settled)-[0-9a-f]{8}\.safetensors")


class BrokenError(AssertionError):
    """The store has broken a promise."""


@dataclass(frozen=True)
class Promises:
    """What processes have said so far."""

    newest: str = ""
    """The last that was committed; '' where it may be gone."""
    copied: str = ""
    uploaded: str = ""
    pinned: frozenset[str] = frozenset()
    commits: int = 0
    uploads: int = 0

    def after(self, lines: Iterable[str]) -> Promises:
        """The same, and what was said since."""
        now = self
        for line in lines:
            word, _, name = line.partition(" ")
            if word == "committed":
                now = replace(now, newest=name, commits=now.commits + 1)
            elif word == "uploaded":
                now = replace(now, uploaded=name, uploads=now.uploads + 1)
            elif word == "copied":
                now = replace(now, copied=name)
            elif word == "pinned":
                now = replace(now, pinned=now.pinned | {name})
            elif word == "unpinned":
                now = replace(now, pinned=now.pinned - {name})
            elif word == "aside":
                now = replace(now, newest="", pinned=frozenset())
        return now


def check(setting: Setting, promises: Promises, *, beside: bool = False) -> list[str]:
    """Check both stores as a next process finds them; returns names of the checkpoints. Raises BrokenError.

    ``beside``: another process was at work, which may have forgotten what was said, in favour of something newer
    that was not said any more.
    """
    if not (setting.store / layout.MARKER).exists() and not promises.newest:
        return []
    folder = layout.open_store(setting.store, create=False).job(JOB)
    expect(holder(folder) is None, "the lock of a dead process is held")
    names = _check_job(folder, promises.newest, beside=beside)
    expect(promises.pinned <= {*names}, f"pinned, and gone: {promises.pinned - {*names}}")
    for name in promises.pinned:
        expect(read_mark(folder.checkpoints / name).pinned, f"{name} is not pinned any more")
    if (folder.path / layout.JOB_FILE).exists():
        folder.load()
    if (setting.other / layout.MARKER).exists():
        other = layout.open_store(setting.other, create=False).job(JOB)
        _check_job(other, promises.copied)
    return names


def _check_job(folder: layout.JobFolder, newest: str, *, beside: bool = False) -> list[str]:
    names = []
    for item in list_checkpoints(folder):
        expect(not item.error, f"{item.path.name} is listed: {item.error}")
        verify_checkpoint(item.path)
        check_contents(item.path)
        names.append(item.path.name)
    there = newest in names or (beside and names[-1:] > [newest])
    expect(not newest or there, f"{newest} was committed and is gone; there are {names}")
    found = newest_valid(folder)
    expect((found.path.name if found else "") == (names[-1] if names else ""), "the newest is not whole")
    return names


def check_contents(path: Path) -> None:
    """What a resume reads is what was in memory."""
    with OpenCheckpoint(path) as opened:
        step = opened.manifest.step
        expect(opened.graph() == graph(step), f"{path.name} has another graph")
        wanted = contents(step)
        expect(set(opened.tensors) == set(wanted), f"{path.name} has other tensors")
        for name, data in wanted.items():
            view = opened.storage(name)
            same = view == data
            view.release()
            expect(same, f"{name} in {path.name} has other bytes")


def check_nothing_left(setting: Setting) -> None:
    """What the next start sweeps, or ``ckptd prune``, leaves nothing but stores. Raises BrokenError."""
    for place in (setting.store, setting.other):
        store = layout.open_store(place)
        for folder in store.jobs():
            sweep(folder)
            prune_job(folder)
            _check_names(folder)
        others = {path.name for path in place.iterdir()} - {layout.MARKER, layout.JOBS}
        expect(not others, f"{others} is left in {place.name}")
    SegmentFolder("torture", setting.folder.path / "segments", setting.shm).close()
    expect(not any(setting.shm.iterdir()), "a segment is left")


def _check_names(folder: layout.JobFolder) -> None:
    own = {layout.JOB_FILE, layout.LOCK_FILE, layout.WORK_FOLDER, layout.CHECKPOINTS, index.INDEX, JOURNAL}
    others = {path.name for path in folder.path.iterdir()} - own
    if not index.entries(folder):  # then what --fresh has put aside may still be wanted
        others = {name for name in others if not name.startswith(EARLIER)}
    expect(not others, f"{others} is left in the job's folder")
    for place in (folder.work, folder.checkpoints):
        inside = {path.name for path in place.iterdir()} if place.exists() else set()
        listed = set(index.folder_names(folder)) if place == folder.checkpoints else set()
        expect(inside == listed, f"{inside - listed} is left in {place.name}")
    for name in index.folder_names(folder):
        files = [path.name for path in (folder.checkpoints / name).iterdir()]
        odd = [file for file in files if file not in (MANIFEST, PIN) and not _FILE.fullmatch(file)]
        expect(not odd, f"{odd} is left in checkpoint {name}")


def expect(true: bool, otherwise: str) -> None:
    """Raise BrokenError unless it is so."""
    if not true:
        raise BrokenError(otherwise)

"""Removes what processes that are no more have left half done."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ckptd.store import disk
from ckptd.store.index import INDEX
from ckptd.store.layout import JOB_FILE, WORK, JobFolder
from ckptd.store.manifest import TABLE, TENSORS_1


def sweep(folder: JobFolder) -> list[Path]:
    """Remove what killed writers left; returns what is gone. Call it with the job's lock held."""
    gone = sweep_work(folder)
    # Folders as version 1 kept them, and parts of pins.
    gone += _sweep(list(folder.checkpoints.glob(f"{WORK}*")))
    return gone + _sweep([path for name in (JOB_FILE, INDEX) for path in folder.path.glob(f"{WORK}{name}-*")])


def sweep_work(folder: JobFolder) -> list[Path]:
    """Remove the work folders of writers that are no more."""
    try:
        return _sweep(list(folder.work.iterdir()))
    except FileNotFoundError:
        return []


def _sweep(left: list[Path]) -> list[Path]:
    return [path for path in left if remove_left(path)]


def remove_left(path: Path) -> bool:
    """Remove what a killed process left; False if it stays: its writer is alive, or the disk won't let us."""
    if path.is_dir():
        return not is_alive(path) and disk.remove_folder(path)
    return disk.remove_part(path)


def is_alive(work: Path) -> bool:
    """Whether somebody holds the lock of a work folder, or of a part of a file."""
    return any(_locked(path) for path in (work, work / TABLE, work / TENSORS_1))


def _locked(file: Path) -> bool:
    try:
        fd = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False  # a writer that got no further than its folder, or a removal that got almost to its end
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks on this file system
    finally:
        os.close(fd)
    return False

"""Removes what processes that are no more have left half done."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from ckptd.store import disk
from ckptd.store.index import INDEX
from ckptd.store.layout import JOB_FILE, WORK, JobFolder
from ckptd.store.manifest import TABLE, TENSORS_1


def sweep(folder: JobFolder) -> list[Path]:
    """Remove what killed writers left; returns what is gone. Call it with the job's lock held."""
    gone = sweep_work(folder)
    # As version 1 kept it.
    gone += _sweep(list(folder.checkpoints.glob(f"{WORK}*")))
    # Only the holder of the job's lock writes these, so a part of one is nobody's.
    for name in (JOB_FILE, INDEX):
        for path in folder.path.glob(f"{WORK}{name}-*"):
            with suppress(OSError):
                path.unlink()
                gone.append(path)
    return gone


def sweep_work(folder: JobFolder) -> list[Path]:
    """Remove the work folders of writers that are no more."""
    try:
        return _sweep(list(folder.work.iterdir()))
    except FileNotFoundError:
        return []


def _sweep(left: list[Path]) -> list[Path]:
    return [path for path in left if not is_alive(path) and disk.remove_folder(path)]


def is_alive(work: Path) -> bool:
    """Whether somebody holds the lock of a work folder."""
    return any(_locked(work / name) for name in (TABLE, TENSORS_1))


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

"""Removes what processes that are no more have left half done."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from ckptd.store import disk
from ckptd.store.layout import WORK, JobFolder
from ckptd.store.manifest import TABLE, TENSORS_1


def sweep(folder: JobFolder) -> list[Path]:
    """Remove what killed writers left; returns what is gone. Call it with the job's lock held."""
    gone = sweep_work(folder)
    # Folders as version 1 kept them, and parts of pins.
    gone += _sweep(list(folder.checkpoints.glob(f"{WORK}*")))
    return gone + _sweep([path for path in folder.path.glob(f"{WORK}*") if not path.is_dir()])


def sweep_work(folder: JobFolder) -> list[Path]:
    """Remove the work folders of writers that are no more."""
    try:
        return _sweep(list(folder.work.iterdir()))
    except FileNotFoundError:
        return []


def _sweep(left: list[Path]) -> list[Path]:
    return [path for path in left if remove_left(path)]


TRIES = 40
PAUSE = 0.005
"""Seconds between them."""


def begin_work(work: Path) -> int:
    """Make a work folder; returns a descriptor of its table, whose lock shows that we are alive until it is closed.

    Raises OSError: FileExistsError where somebody else works in a folder of this name.
    """
    for left in reversed(range(TRIES)):
        try:
            disk.make_folder(work)
            fd = disk.create_file(work / TABLE)
        except (FileNotFoundError, FileExistsError):
            # Who sweeps has taken the empty folder away before there was a lock, or is at it.
            if not left:
                raise
            time.sleep(PAUSE)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # likewise
        except OSError:
            return fd  # a file system without locks: then nobody else can look for one either
        else:
            if os.fstat(fd).st_nlink:
                return fd
        os.close(fd)
    raise OSError(errno.EBUSY, "is swept away again and again", str(work))


def remove_left(path: Path) -> bool:
    """Remove what a killed process left; False if it stays: its writer is alive, or the disk won't let us."""
    return _remove_work(path) if path.is_dir() else disk.remove_part(path)


def _remove_work(work: Path) -> bool:
    """Remove a work folder, its lock held, so that nobody begins in it meanwhile."""
    held: list[int] = []
    try:
        for file in (work / TABLE, work / TENSORS_1):
            try:
                held.append(os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK))
                fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:
                continue  # it isn't there, or the file system has no locks
        if not held:
            try:
                work.rmdir()  # a writer's that got no further than its folder
                return True
            except OSError:
                if (work / TABLE).exists():
                    return False  # it has got further
        return disk.remove_folder(work)
    finally:
        for fd in held:
            os.close(fd)


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

"""One process runs a job. The kernel frees its lock however it ends."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from dataclasses import dataclass
from types import TracebackType

from ckptd.errors import LockedError, NoStoreError
from ckptd.store import disk
from ckptd.store.layout import JobFolder
from ckptd.store.manifest import dump_json, load_json, match_fields
from ckptd.store.quantity import clock_text

OWNER_MAX_BYTES = 4096
PATIENCE = 0.1
"""Seconds after which a lock counts as held."""


@dataclass(frozen=True)
class Owner:
    """Who holds a job."""

    pid: int
    host: str
    since: float
    """Unix seconds."""


class JobLock:
    """An exclusive flock on a job's lock file. Its descriptor is not passed to other programs."""

    def __init__(self, folder: JobFolder) -> None:
        self.folder = folder
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def acquire(self) -> None:
        """Take the lock at once; raises LockedError (another has it) or NoStoreError (can't be made)."""
        if self._fd is not None:
            return
        self.folder.make()
        path = self.folder.lock
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, disk.FILE_MODE)
        except OSError as error:
            raise NoStoreError(
                f"can't lock the job: {path}: {disk.reason(error)}; name another store with --store"
            ) from error
        try:
            os.fchmod(fd, disk.FILE_MODE)
            _flock(fd)
            owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
            os.ftruncate(fd, 0)
            disk.write_all(fd, dump_json(owner))
        except BlockingIOError as error:
            os.close(fd)
            raise LockedError(self._held_by(_owner(self.folder))) from error
        except OSError as error:
            os.close(fd)
            raise NoStoreError(f"can't lock the job: {path}: {disk.reason(error)}") from error
        self._fd = fd

    def release(self) -> None:
        """Give the lock back. The file stays: to remove it would let two processes lock two files."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            os.ftruncate(fd, 0)
        except OSError:
            pass  # its text is only for people; the lock itself goes with the descriptor
        finally:
            os.close(fd)

    def __enter__(self) -> JobLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _held_by(self, owner: Owner | None) -> str:
        job = f"job {self.folder.id} ({self.folder.path})"
        if owner is None:
            return f"{job} is held by another process: wait until it ends, or start a job of another --name"
        return (
            f"{job} is held by process {owner.pid} on {owner.host} since {clock_text(owner.since)}: "
            f"wait until it ends, stop it (kill {owner.pid}), or start a job of another --name"
        )


def _flock(fd: int) -> None:
    """Take the lock, or raise BlockingIOError; gives way to a holder() that looks for an instant."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def holder(folder: JobFolder) -> Owner | None:
    """Who holds the job now, for listings; None if nobody does, or hasn't said yet who it is."""
    try:
        fd = disk.open_file(folder.lock)
    except OSError:
        return None
    try:
        owner = _owner(folder)
        if owner is None:
            return None
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return owner
    finally:
        os.close(fd)
    return None


def _owner(folder: JobFolder) -> Owner | None:
    """What the holder wrote; None if it is just about to, or it can't be read."""
    try:
        fields = load_json(disk.read_file(folder.lock, OWNER_MAX_BYTES))
        match_fields(fields, {"pid": int, "host": str, "since": float})
    except (OSError, ValueError):
        return None
    return Owner(**fields)

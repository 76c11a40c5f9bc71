"""Who reads a checkpoint holds it, so that nobody removes it meanwhile."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ckptd.errors import DamagedError
from ckptd.store import disk
from ckptd.store.manifest import MANIFEST

PATIENCE = 2.0
"""Seconds in which who removes a checkpoint has taken its name away."""


class Hold:
    """A shared lock on a checkpoint's manifest, until ``release`` or the process's end."""

    def __init__(self, path: Path) -> None:
        """Raises DamagedError if there is no manifest."""
        file = path / MANIFEST
        try:
            self._fd = disk.open_file(file)
        except OSError as error:
            raise DamagedError(f"{file} can't be read: {disk.reason(error)}") from error
        # Somebody who removes it has it for an instant; a file system may have no locks. Then reading goes
        # on all the same: what is open stays readable, and what is gone is reported as such.
        with suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def release(self) -> None:
        """Let it go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@contextmanager
def hold(path: Path) -> Iterator[Hold]:
    """Hold a checkpoint while the body runs. Raises DamagedError."""
    held = Hold(path)
    try:
        yield held
    finally:
        held.release()


@contextmanager
def keep(path: Path) -> Iterator[None]:
    """See to it that nobody removes a checkpoint while the body runs; one without a manifest can't be kept.

    Raises DamagedError if it is being removed, or gone.
    """
    file = path / MANIFEST
    try:
        fd = disk.open_file(file)
    except OSError:
        if not path.is_dir():
            raise DamagedError(f"checkpoint {path.name} was removed meanwhile") from None
        yield
        return
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise DamagedError(f"checkpoint {path.name} is being removed") from None
                time.sleep(0.005)
            except OSError:
                break  # no locks on this file system
            else:
                break
        if not file.exists():
            raise DamagedError(f"checkpoint {path.name} was removed meanwhile")
        yield
    finally:
        os.close(fd)


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether nobody reads the checkpoint; nobody begins to while the body runs. Raises OSError."""
    try:
        fd = os.open(path / MANIFEST, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        yield True  # it has no manifest that could be read: nobody reads it
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError:
            yield True  # no locks on this file system: who reads has its files open already
        else:
            yield True
    finally:
        os.close(fd)

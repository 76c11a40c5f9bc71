"""Folders and files as the store keeps them: private, whole or not there, and on the disk."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def make_folder(path: Path) -> bool:
    """Make one private folder, whatever the umask, and make its name durable.

    Returns False if it is there already. Raises OSError.
    """
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    try:
        path.chmod(FOLDER_MODE)  # mkdir subtracts the umask, which may hold the owner's own bits
        sync_folder(path.parent)
    except BaseException:
        path.rmdir()
        raise
    return True


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing. Raises OSError."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        make_folder(folder)


def create_file(path: Path) -> int:
    """Create a private file, open for reading and writing; returns its descriptor. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        os.fchmod(fd, FILE_MODE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_file(path: Path) -> int:
    """Open a regular file for reading, not through a link. Raises OSError."""
    # O_NONBLOCK: a FIFO in the place of a file must not hang us.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return fd


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of it; a write may take less than it was given. Raises OSError."""
    view = memoryview(data)
    try:
        done = 0
        while done < view.nbytes:
            with view[done:] as rest:
                done += os.write(fd, rest)
    finally:
        view.release()


def replace_file(path: Path, data: bytes, folder: Path | None = None) -> None:
    """Put a new file in the place of an old one: after a crash it is one or the other. Raises OSError.

    ``folder``: where its part lies before it is whole, if not beside it.
    """
    part, fd = _create_part(folder or path.parent, path.name)
    try:
        write_all(fd, data)
        os.fsync(fd)
        part.replace(path)  # while it is locked: nobody takes it for what a killed process has left
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    sync_folder(path.parent)


def _create_part(folder: Path, name: str) -> tuple[Path, int]:
    """A file for what is not whole yet, locked as long as it is open: see remove_part. Raises OSError."""
    while True:
        part = folder / f".tmp-{name}-{os.getpid()}-{os.urandom(4).hex()}"
        fd = create_file(part)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink:
            return part, fd
        os.close(fd)  # swept away before it was locked


def remove_part(part: Path) -> bool:
    """Remove what a killed replace_file left; False if it stays: it is being written, or the disk won't let us."""
    try:
        fd = open_file(part)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)


def read_file(path: Path, limit: int) -> bytes:
    """All of a small file. Raises OSError, EFBIG if it is longer than ``limit`` bytes."""
    with open(open_file(path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"is longer than {limit} bytes", str(path))
    return data


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_folder(path: Path) -> bool:
    """Remove a folder and what is in it. Returns False if some of it stays (the disk doesn't let us)."""
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def reason(error: OSError) -> str:
    """An operating system error as the tail of a sentence."""
    known = {
        errno.EROFS: "the file system is read-only",
        errno.EIO: "the disk reports an input/output error",
        errno.EACCES: "permission denied",
        errno.EPERM: "operation not permitted",
        errno.EDQUOT: "your disk quota is used up",
        errno.ELOOP: "it is a symbolic link",
        errno.ENOENT: "it is not there",
        errno.EISDIR: "it is a folder",
    }
    return known.get(error.errno or 0) or (error.strerror or str(error)).lower()

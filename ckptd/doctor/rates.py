"""How fast this machine is here and now: into shared memory, through the hash, to the disk and back.

The copy is measured as the agent makes it, without torch: a file in shared memory is mapped, and some threads (as
many as processors, THREADS at most) each take a part after the other, have its pages made (madvise(2),
MADV_POPULATE_WRITE) and copy it by memmove, neither of which holds the interpreter's lock. ``copy`` counts all of
that, ``copy_again`` the copying alone, into pages that are there already.

The disk is measured on a file without a name, so that nothing stays whatever happens: whole writes and an
fsync, once through the page cache and once past it (O_DIRECT, several writes at a time), each with twice as
much as before until a round takes long enough to be believed; then the file is read, after its pages were
dropped from the cache.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ckptd.store import hashing

_POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE, which the mmap module doesn't name."""
_madvise = ctypes.CDLL(None, use_errno=True).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
Advance = Callable[[int], None]
"""Called with the bytes done since the last call."""

THREADS = 4
PART = 8 << 20
"""Bytes that a thread copies before it takes the next part."""
COPY_BYTES = 128 << 20
"""Copied into shared memory, where there is room for it: more than most caches hold."""
ROUNDS = 3
"""The median of so many."""
FIRST_BYTES = 16 << 20
LAST_BYTES = 1 << 30
"""Written to the disk: the least, and the most."""
ENOUGH_SECONDS = 0.4
"""A round that took this long is believed; the next would take twice as long."""
SHARE = 4
"""Of what is free, at most the ``SHARE``-th part is used for measuring."""
CHUNK = 8 << 20
"""Bytes written at a time."""
WRITES_DIRECT = True
"""Whether ckptd.store's writer goes past the page cache where it can: what is promised is what it does."""


@dataclass(frozen=True)
class Rates:
    """Bytes a second; 0 where it could not be measured."""

    threads: int = 1
    copy: float = 0.0
    """Into shared memory that is reserved for it, as the first dump does."""
    copy_again: float = 0.0
    """Into memory that is there already."""
    hash: float = 0.0
    algorithm: str = ""
    write: float = 0.0
    """Through the page cache, fsync included."""
    write_direct: float = 0.0
    """Past it; 0 also where the file system can't."""
    read: float = 0.0
    upload: float = 0.0
    download: float = 0.0

    @property
    def disk(self) -> float:
        """As the store writes."""
        return (self.write_direct or self.write) if WRITES_DIRECT else self.write


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def measure_copy(folder: Path, available: int, advance: Advance) -> tuple[float, float]:
    """(with reserving the room, into room that is there) of a copy into ``folder``; bytes a second.

    ``available``: bytes of memory that may be had. (0, 0) where there is too little. Raises OSError.
    """
    status = os.statvfs(folder)
    size = min(COPY_BYTES, available // SHARE, status.f_bavail * status.f_frsize // SHARE)
    size -= size % mmap.PAGESIZE
    if size < FIRST_BYTES // 4:
        return 0.0, 0.0
    first: list[float] = []
    again: list[float] = []
    with mmap.mmap(-1, size) as source:
        _fill(source)
        for _ in range(ROUNDS):
            with _nameless(folder) as fd:
                os.ftruncate(fd, size)
                with mmap.mmap(fd, size) as target:
                    for rates, new in ((first, True), (again, False)):
                        begun = time.perf_counter()
                        _copy(source, target, size, fd if new else -1)
                        rates.append(size / (time.perf_counter() - begun))
            advance(2 * size)
    return _median(first), _median(again)


def _fill(memory: mmap.mmap) -> None:
    """Give it pages of its own: all that is not written to is one page of zeros, and in the cache."""
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(memory)), 0xA5, len(memory))


def _copy(source: mmap.mmap, target: mmap.mmap, size: int, fd: int) -> None:
    """Copy all of it; ``fd``: of the target, whose pages are to be made first, or -1. Raises OSError."""
    # In a function of its own, so that nothing holds the maps when they are to be closed.
    whence = ctypes.addressof(ctypes.c_char.from_buffer(source))
    to = ctypes.addressof(ctypes.c_char.from_buffer(target))

    def copy(start: int) -> None:
        length = min(PART, size - start)
        if fd >= 0:
            _make_pages(fd, to, start, length)
        ctypes.memmove(to + start, whence + start, length)

    _at_once(range(0, size, PART), min(processors(), THREADS), copy)


def _make_pages(fd: int, address: int, start: int, length: int) -> None:
    if _madvise(address + start, length, _POPULATE_WRITE) == 0:
        return
    if ctypes.get_errno() != errno.EINVAL:  # EFAULT: touching them would end us, there is no room
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.posix_fallocate(fd, start, length)  # a kernel before 5.14


def measure_hash(advance: Advance) -> tuple[str, float]:
    """(the algorithm that the store uses here, bytes a second)."""
    algorithm = hashing.fastest()
    hasher = hashing.hasher(algorithm)
    data = os.urandom(CHUNK)
    done, begun = 0, time.perf_counter()
    while (taken := time.perf_counter() - begun) < 0.1 or not done:
        hasher.update(data)
        done += len(data)
    advance(done)
    return algorithm, done / taken


def measure_disk(folder: Path, advance: Advance) -> tuple[float, float, float]:
    """(written through the page cache, past it, read) to and from a folder; bytes a second.

    Zeros where there is too little room. Raises OSError: nothing can be written there.
    """
    status = os.statvfs(folder)
    most = min(LAST_BYTES, status.f_bavail * status.f_frsize // SHARE)
    if most < FIRST_BYTES:
        return 0.0, 0.0, 0.0
    with _nameless(folder) as fd, mmap.mmap(-1, CHUNK) as data:  # a map begins at a page, as O_DIRECT asks
        data[:] = os.urandom(CHUNK)
        buffered, size = _write_rounds(fd, data, most, 1, advance)
        read = _read(fd, size, data, advance)
        data[:] = os.urandom(CHUNK)
        direct = _write_direct(fd, data, most, advance)
    return buffered, direct, read


def _write_rounds(fd: int, data: mmap.mmap, most: int, threads: int, advance: Advance) -> tuple[float, int]:
    """(bytes a second of the last round, its bytes); each round writes twice as much."""
    size = FIRST_BYTES
    while True:
        begun = time.perf_counter()
        with memoryview(data) as view:
            _at_once(range(0, size, CHUNK), threads, lambda offset: _write_at(fd, view, offset))
        os.fsync(fd)
        taken = time.perf_counter() - begun
        advance(size)
        if taken >= ENOUGH_SECONDS or 2 * size > most:
            return size / taken, size
        size *= 2


def _write_at(fd: int, view: memoryview, offset: int) -> None:
    done = 0
    while done < view.nbytes:
        with view[done:] as rest:
            done += os.pwrite(fd, rest, offset + done)


def _at_once(numbers: Iterable[int], threads: int, work: Callable[[int], None]) -> None:
    """Do ``work`` for each number, in some threads, which take one after the other. Raises OSError."""
    left = iter(numbers)  # of a range: each number is given to one thread only
    errors: list[OSError] = []

    def run() -> None:
        try:
            for number in left:
                work(number)
        except OSError as error:
            errors.append(error)

    started = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if errors:
        raise errors[0]


def _write_direct(fd: int, data: mmap.mmap, most: int, advance: Advance) -> float:
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return 0.0  # a file system without it (EINVAL); then the other way is the only one
    try:
        os.ftruncate(fd, 0)
        return _write_rounds(own, data, most, THREADS, advance)[0]
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTSUP):
            return 0.0  # it is opened, but refuses this alignment
        raise
    finally:
        os.close(own)


def _read(fd: int, size: int, data: mmap.mmap, advance: Advance) -> float:
    with suppress(OSError):  # where it can't be dropped we read the cache, as a resume would
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    begun, done = time.perf_counter(), 0
    with memoryview(data) as view:
        while done < size and (count := os.preadv(fd, [view], done)):
            done += count
            advance(count)
            if time.perf_counter() - begun > ENOUGH_SECONDS:
                break
    return done / max(time.perf_counter() - begun, 1e-9)


@contextmanager
def _nameless(folder: Path) -> Iterator[int]:
    """A file in a folder that is gone as soon as it is closed. Raises OSError."""
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
        fd, name = tempfile.mkstemp(prefix=".ckptd-doctor-", dir=folder)
        os.unlink(name)
    try:
        yield fd
    finally:
        os.close(fd)


def _median(numbers: list[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]

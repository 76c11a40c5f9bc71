"""A room: memory that agent and supervisor share, into which one dump after the other is copied.

It is a file in a memory file system. Pages that were never touched cost far more than the copy itself (the kernel
has to find, clear and map each one), so a room is kept and used again, and is made ready before it is needed.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path

PAGE = mmap.PAGESIZE
POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE, Linux 5.14 and later: madvise(2)."""
DONTFORK = 10
SLACK = 4
"""A quarter more addresses are mapped than the file has bytes: a room that grows by less keeps those that it has."""
MAYMOVE = 1
"""MREMAP_MAYMOVE: mremap(2)."""
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = _libc.mremap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Room:
    """A file that is mapped for writing, and grows where need be.

    No descriptor stays open, as Python's own mmap would have one: a program may close descriptors that it doesn't
    know, and have the number for a file of its own.
    """

    def __init__(self, path: Path) -> None:
        """Open it, or make it (mode 0600). Raises OSError."""
        self.path = path
        self._address = self._mapped = self.nbytes = 0
        self.ready = 0
        """Bytes from the start whose pages are there, and mapped here."""
        self.digests: dict[int, tuple[int, ...]] = {}
        """By offset: length and hash of what was copied there from a device."""
        self.before_move: Callable[[Room], bool] | None = None
        """Called before the addresses become others, or nobody's; False if they must stay what they are."""
        fd = self._open(os.O_CREAT)
        try:
            status = os.fstat(fd)
            self._identity = status.st_dev, status.st_ino
            self._map(fd, status.st_size)
        finally:
            os.close(fd)

    def _open(self, flags: int = 0) -> int:
        return os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)

    def grow(self, nbytes: int) -> None:
        """Make it at least that long; its pages are not there yet. Raises OSError (ENOSPC) if they can't be."""
        more = nbytes - self.nbytes
        if more <= 0:
            return
        nbytes += -nbytes % PAGE
        fd = self._open()
        try:
            there = os.fstatvfs(fd)
            if there.f_bavail * there.f_frsize < more:
                raise OSError(errno.ENOSPC, "no space left on device", str(self.path))
            os.ftruncate(fd, nbytes)
            if nbytes > self._mapped:
                self._map(fd, nbytes)
            self.nbytes = nbytes
        finally:
            os.close(fd)

    def _map(self, fd: int, nbytes: int) -> None:
        if nbytes == 0:
            return
        movable = bool(self._address) and self._let_go()
        for mapped in (nbytes + (nbytes // SLACK & -PAGE), nbytes):
            if movable:  # what is mapped stays so
                address = _libc.mremap(self._address, self._mapped, mapped, MAYMOVE)
            else:
                both = mmap.PROT_READ | mmap.PROT_WRITE
                address = _libc.mmap(None, mapped, both, mmap.MAP_SHARED, fd, 0)
            if address not in (None, _FAILED):
                break
        else:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(self.path))
        self._address, self._mapped, self.nbytes = address, mapped, nbytes
        _libc.madvise(address, mapped, DONTFORK)  # a child has nothing to do with it

    def address(self) -> int:
        """Where it lies in this process, until it grows."""
        return self._address

    def view(self) -> memoryview:
        """All of it, until it grows or is closed."""
        if not self._address:
            return memoryview(b"")
        return memoryview((ctypes.c_char * self.nbytes).from_address(self._address)).cast("B")

    def populate(self, begin: int, end: int) -> None:
        """Have the pages of a part there, and mapped; without the GIL. Raises OSError (ENOSPC)."""
        begin -= begin % PAGE
        if end <= begin:
            return
        if _libc.madvise(self._address + begin, end - begin, POPULATE_WRITE) == 0:
            return
        number = ctypes.get_errno()
        # EFAULT: touching it would be a SIGBUS, as the file system is full; ENOMEM.
        if number != errno.EINVAL:
            raise OSError(errno.ENOSPC, "no space left on device", str(self.path))
        fd = self._open()  # an older kernel: the file gets its pages, they are mapped when touched
        try:
            os.posix_fallocate(fd, begin, end - begin)
        finally:
            os.close(fd)

    def is_there(self) -> bool:
        """Its file still has its name: nobody has taken it away."""
        try:
            status = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def close(self) -> None:
        """Unmap it; the file stays. Views handed out before must not be used any more."""
        if self._address and self._let_go():
            _libc.munmap(self._address, self._mapped)
        self._address = self._mapped = self.nbytes = 0

    def _let_go(self) -> bool:
        return self.before_move is None or self.before_move(self)

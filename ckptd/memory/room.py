"""A room: memory that agent and supervisor share, into which one dump after the other is copied.

It is a file in a memory file system. Pages that were never touched cost far more than the copy itself (the kernel
has to find, clear and map each one), so a room is kept and used again, and is made ready before it is needed.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from pathlib import Path

PAGE = mmap.PAGESIZE
POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE, Linux 5.14 and later: madvise(2)."""

_madvise = ctypes.CDLL(None, use_errno=True).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Room:
    """A file that is mapped for writing, and grows where need be."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it (mode 0600). Raises OSError."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._map: mmap.mmap | None = None
        self.ready = 0
        """Bytes from the start whose pages are there, and mapped here."""
        try:
            self._take(os.fstat(self._fd).st_size)
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def nbytes(self) -> int:
        """How long it is."""
        return len(self._map) if self._map is not None else 0

    def grow(self, nbytes: int) -> None:
        """Make it at least that long; its pages are not there yet. Raises OSError (ENOSPC) if they can't be."""
        more = nbytes - self.nbytes
        if more <= 0:
            return
        there = os.fstatvfs(self._fd)
        if there.f_bavail * there.f_frsize < more:
            raise OSError(errno.ENOSPC, "no space left on device", str(self.path))
        nbytes += -nbytes % PAGE
        os.ftruncate(self._fd, nbytes)
        self._take(nbytes)

    def _take(self, nbytes: int) -> None:
        if self._map is not None:
            self._map.resize(nbytes)  # what is mapped stays so: mremap(2)
        elif nbytes:
            self._map = mmap.mmap(self._fd, nbytes)

    def address(self) -> int:
        """Where it lies in this process, until it grows."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._map)) if self._map is not None else 0

    def view(self) -> memoryview:
        """All of it. As long as a view lives it can't grow."""
        return memoryview(self._map) if self._map is not None else memoryview(b"")

    def populate(self, begin: int, end: int) -> None:
        """Have the pages of a part there, and mapped; without the GIL. Raises OSError (ENOSPC)."""
        begin -= begin % PAGE
        if end <= begin:
            return
        if _madvise(self.address() + begin, end - begin, POPULATE_WRITE) == 0:
            return
        number = ctypes.get_errno()
        if number == errno.EINVAL:  # an older kernel: the file gets its pages, they are mapped when touched
            os.posix_fallocate(self._fd, begin, end - begin)
        else:  # EFAULT: touching it would be a SIGBUS, as the file system is full; ENOMEM
            raise OSError(errno.ENOSPC, "no space left on device", str(self.path))

    def is_there(self) -> bool:
        """Its file still has its name: nobody has taken it away."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.path, follow_symlinks=False))
        except OSError:
            return False

    def close(self) -> None:
        """Unmap it; the file stays. Views handed out before must be gone."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

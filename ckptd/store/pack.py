"""A tensor file opened for reading: its storages are mapped, not copied."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from ckptd.errors import DamagedError
from ckptd.memory.segment import Tensor
from ckptd.store import compress, disk
from ckptd.store.manifest import FileEntry
from ckptd.store.storages import ZSTD, Stored
from ckptd.store.tensorfile import read_head


def open_entry(path: Path, entry: FileEntry) -> int:
    """Open one file of the checkpoint ``path``, of the size that the manifest says; raises DamagedError."""
    file = path / entry.name
    try:
        fd = disk.open_file(file)
    except OSError as error:
        raise DamagedError(f"{file} can't be read: {disk.reason(error)}") from error
    size = os.fstat(fd).st_size
    if size != entry.nbytes:
        os.close(fd)
        raise DamagedError(f"{file} is damaged: it has {size} bytes, its manifest says {entry.nbytes}")
    return fd


class Pack:
    """One tensor file of a checkpoint, mapped. It stays readable when its name is taken away."""

    def __init__(self, path: Path, entry: FileEntry) -> None:
        """``path``: the checkpoint's folder. Raises DamagedError."""
        self.file = path / entry.name
        self.entry = entry
        fd = open_entry(path, entry)
        try:
            self._map = mmap.mmap(fd, entry.nbytes, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DamagedError(f"{self.file} can't be mapped: {error}") from error
        finally:
            os.close(fd)
        self._view = memoryview(self._map)
        try:
            self.start, self.entries = read_head(self._view, str(self.file))
            if 0 <= entry.hashed != self.start:
                raise DamagedError(f"{self.file} is damaged: its head is not as long as its manifest says")
        except BaseException:
            self.close()
            raise

    start: int
    """Where the data begins, in bytes from the start of the file."""
    entries: dict[str, Tensor]
    """What it holds, by key; offsets count from ``start``."""

    def find(self, stored: Stored) -> tuple[Tensor, bool]:
        """Where a storage lies, and whether it is a zstd frame there; raises DamagedError."""
        plain = self.entries.get(stored.key)
        tensor = plain or self.entries.get(stored.key + ZSTD)
        if tensor is None:
            raise DamagedError(f"{self.file} holds no storage {stored.name[:80]!r}, but the graph needs it")
        if plain is not None and plain.nbytes != stored.nbytes:
            raise DamagedError(
                f"{self.file} is damaged: {stored.name[:80]!r} has {plain.nbytes} bytes, not {stored.nbytes}"
            )
        return tensor, plain is None

    def raw(self, tensor: Tensor) -> memoryview:
        """The bytes of an entry as they are in the file."""
        begin = self.start + tensor.offset
        return self._view[begin : begin + tensor.nbytes]

    def read(self, stored: Stored) -> memoryview:
        """The bytes of a storage, read-only; decompressed into memory if need be. Raises DamagedError."""
        tensor, squeezed = self.find(stored)
        if not squeezed:
            return self.raw(tensor)
        with self.raw(tensor) as frame:
            return memoryview(compress.expand(frame, stored.nbytes, f"{stored.name!r} in {self.file}"))

    def close(self) -> None:
        """Drop the mapping. Views handed out before must be gone, else BufferError."""
        self._view.release()
        self._map.close()

"""A segment: one dump in shared memory, written by the agent, read by the writer.

A segment is a file in a memory file system (or, where that is too small, beside the store), mode
0600. It holds, from offset 0: the bytes of all storages, in an order that leaves no holes, each
aligned to its element size; then the object graph (msgpack); then the index (msgpack); then a
16 byte footer: length of the index (little endian u64) and the magic ``CKPTDSEG``.
Without the footer the segment is not complete and is never read.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from ckptd.errors import DamagedError

MAGIC = b"CKPTDSEG"
FOOTER = struct.Struct("<Q8s")
ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
"""safetensors names of element types, with their size in bytes."""


@dataclass(frozen=True)
class Tensor:
    """One storage in a segment or a tensor file: a vector of ``nbytes`` bytes at ``offset``."""

    name: str
    dtype: str
    """A safetensors name (ITEM_BYTES); 'U8' where the storage is not a whole number of elements."""
    nbytes: int
    offset: int
    """Bytes from the start of the data."""


@dataclass(frozen=True)
class Index:
    """What is in a segment."""

    tensors: list[Tensor]
    graph_offset: int
    graph_nbytes: int
    facts: dict[str, Any]
    """What the agent knows for the manifest: see ckptd.store.manifest.Manifest."""


def arrange(sizes: Sequence[tuple[str, str, int]]) -> list[Tensor]:
    """Lay out (name, dtype, nbytes) without holes so that each is aligned to its element size."""
    offset = 0
    tensors = []
    for name, dtype, nbytes in sorted(sizes, key=lambda item: -ITEM_BYTES[item[1]]):
        tensors.append(Tensor(name, dtype, nbytes, offset))
        offset += nbytes
    return tensors


class Segment:
    """A complete segment, opened for reading. Use as a context manager; the file is not removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < FOOTER.size:
                raise DamagedError(f"segment {path} is {size} bytes long: the dump was not completed")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length, magic = FOOTER.unpack_from(self._map, size - FOOTER.size)
        if magic != MAGIC or length > size - FOOTER.size:
            self._map.close()
            raise DamagedError(f"segment {path} has no footer: the dump was not completed")
        start = size - FOOTER.size - length
        fields = msgpack.unpackb(self._map[start : start + length], raw=False, strict_map_key=False)
        self.index = Index(
            tensors=[Tensor(*item) for item in fields["tensors"]],
            graph_offset=fields["graph_offset"],
            graph_nbytes=fields["graph_nbytes"],
            facts=fields["facts"],
        )
        if self.index.graph_offset + self.index.graph_nbytes > start:
            raise DamagedError(f"segment {path}: its index points outside of it")

    @property
    def data_nbytes(self) -> int:
        """Bytes of all storages together; they start at offset 0."""
        return sum(tensor.nbytes for tensor in self.index.tensors)

    def data(self) -> memoryview:
        """All storages, in the order of the index."""
        return memoryview(self._map)[: self.data_nbytes]

    def graph(self) -> memoryview:
        """The object graph, msgpack."""
        offset = self.index.graph_offset
        return memoryview(self._map)[offset : offset + self.index.graph_nbytes]

    def close(self) -> None:
        """Drop the mapping. Views handed out before must be gone."""
        self._map.close()

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class SegmentWriter:
    """A segment in the making: map it, copy into ``view``, then ``finish``."""

    def __init__(self, path: Path, tensors: list[Tensor], graph: bytes, facts: dict[str, Any]) -> None:
        """Create the file with all its room reserved; raises OSError (ENOSPC) when there is none."""
        data = sum(tensor.nbytes for tensor in tensors)
        index: bytes = msgpack.packb(
            {
                "tensors": [[t.name, t.dtype, t.nbytes, t.offset] for t in tensors],
                "graph_offset": data,
                "graph_nbytes": len(graph),
                "facts": facts,
            }
        )
        self.path = path
        self._footer = FOOTER.pack(len(index), MAGIC)
        self._end = data + len(graph) + len(index)
        size = self._end + FOOTER.size
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)  # so that a full tmpfs is an error here, not a SIGBUS later
            self._map = mmap.mmap(fd, size)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(fd)
        self._map[data : data + len(graph)] = graph
        self._map[data + len(graph) : self._end] = index
        self.view = memoryview(self._map)[:data]

    def finish(self) -> None:
        """Write the footer: from here on the segment is complete."""
        self._map[self._end :] = self._footer
        self.view.release()
        self._map.close()

    def abandon(self) -> None:
        """Remove what was begun."""
        self.view.release()
        self._map.close()
        self.path.unlink(missing_ok=True)

"""A segment: one dump in shared memory, written by the agent, read by the writer.

A segment is a file in a memory file system (or, where that is too small, beside the store), mode
0600. It holds, from offset 0: the bytes of all storages, in an order that leaves no holes, each
aligned to its element size; then the object graph (msgpack) and one byte for each region of the storages. At its
end lie the index (msgpack) and a 16 byte footer: length of the index (little endian u64) and the magic
``CKPTDSEG``; before them there may be room to spare, as a segment is written into a room that was used before
(ckptd.memory.room). Without the footer the segment is not complete and is never taken for a dump.

While the storages are being copied the magic is ``CKPTDCPY``. The graph is there then, and a region of the
storages once its byte is 1: the writer need not wait for the whole copy (ckptd.store.early).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack

from ckptd.errors import DamagedError
from ckptd.memory.room import Room

MAGIC = b"CKPTDSEG"
COPYING = b"CKPTDCPY"
FOOTER = struct.Struct("<Q8s")
ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
"""safetensors names of element types, with their size in bytes."""
REGION = 8 << 20
"""Bytes of the storages that are said to be there together."""


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
class Spill:
    """Where the storages are if there was no memory for them: in a file on the store's disk, hashed already."""

    file: str
    """Its path. The storages lie there as the tensors' offsets say, counted from ``start``."""
    start: int
    """Bytes that are kept free for the head of a tensor file."""
    algorithm: str
    digests: list[str]
    """Hex, one for each tensor."""


@dataclass(frozen=True)
class Index:
    """What is in a segment."""

    tensors: list[Tensor]
    graph_offset: int
    graph_nbytes: int
    facts: dict[str, Any]
    """What the agent knows for the manifest: see ckptd.store.manifest.Manifest."""
    dump: str = ""
    """Id of the dump, as in protocol.Dump."""
    spill: Spill | None = None
    """None: the segment holds the storages."""
    regions: int = 0
    """How many bytes behind the graph say which regions of the storages are there."""


def arrange(sizes: Sequence[tuple[str, str, int]]) -> list[Tensor]:
    """Lay out (name, dtype, nbytes) without holes so that each is aligned to its element size."""
    offset = 0
    tensors = []
    for name, dtype, nbytes in sorted(sizes, key=lambda item: -ITEM_BYTES[item[1]]):
        tensors.append(Tensor(name, dtype, nbytes, offset))
        offset += nbytes
    return tensors


class Segment:
    """A segment, opened for reading. Use as a context manager; the file is not removed."""

    def __init__(self, path: Path, *, copying: bool = False) -> None:
        """Open a complete one; ``copying``: or one whose storages are still on their way. Raises DamagedError."""
        self.path = path
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < FOOTER.size:
                raise DamagedError(f"segment {path} is {size} bytes long: the dump was not completed")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length, magic = FOOTER.unpack_from(self._map, size - FOOTER.size)
        if not (magic == MAGIC or (copying and magic == COPYING)) or length > size - FOOTER.size:
            self._map.close()
            raise DamagedError(f"segment {path} has no footer: the dump was not completed")
        start = size - FOOTER.size - length
        fields = msgpack.unpackb(self._map[start : start + length], raw=False, strict_map_key=False)
        self.index = Index(
            tensors=[Tensor(*item) for item in fields["tensors"]],
            graph_offset=fields["graph_offset"],
            graph_nbytes=fields["graph_nbytes"],
            facts=fields["facts"],
            dump=fields.get("dump", ""),
            spill=Spill(**fields["spill"]) if fields.get("spill") else None,
            regions=fields.get("regions", 0),
        )
        self._regions = self.index.graph_offset + self.index.graph_nbytes
        if self._regions + self.index.regions > start:
            raise DamagedError(f"segment {path}: its index points outside of it")

    @property
    def data_nbytes(self) -> int:
        """Bytes of all storages together; they start at offset 0, unless they were spilled."""
        return sum(tensor.nbytes for tensor in self.index.tensors)

    def data(self) -> memoryview:
        """All storages, in the order of the index; nothing where they were spilled."""
        return memoryview(self._map)[: 0 if self.index.spill else self.data_nbytes]

    def graph(self) -> memoryview:
        """The object graph, msgpack."""
        offset = self.index.graph_offset
        return memoryview(self._map)[offset : offset + self.index.graph_nbytes]

    def has(self, offset: int, nbytes: int) -> bool:
        """Whether these bytes of the storages are there already."""
        first, last = offset // REGION, (offset + max(nbytes, 1) - 1) // REGION
        return last < self.index.regions and all(self._map[self._regions + first : self._regions + last + 1])

    def stage(self) -> bytes:
        """COPYING, MAGIC, or something else where the copy was given up."""
        return self._map[-len(MAGIC) :]

    def close(self) -> None:
        """Drop the mapping. Views handed out before must be gone."""
        self._map.close()

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class SegmentWriter:
    """A segment in the making: copy all storages into the room's first bytes, then ``finish``.

    From the start on others may read it as one that is being copied, until ``void``.
    """

    def __init__(
        self,
        room: Room,
        tensors: list[Tensor],
        graph: bytes,
        facts: dict[str, Any],
        dump: str = "",
        spill: Spill | None = None,
    ) -> None:
        """Everything but the storages. What the room held is no segment from here on.

        Raises OSError (ENOSPC) when it can't grow, or the pages of its end are not to be had.
        """
        data = sum(tensor.nbytes for tensor in tensors) if spill is None else 0
        regions = -(-data // REGION)
        index: bytes = msgpack.packb(
            {
                "tensors": [[t.name, t.dtype, t.nbytes, t.offset] for t in tensors],
                "graph_offset": data,
                "graph_nbytes": len(graph),
                "facts": facts,
                "dump": dump,
                "spill": asdict(spill) if spill is not None else None,
                "regions": regions,
            }
        )
        self.room = room
        self.data_nbytes = data
        self.regions = regions
        self._graph_end = data + len(graph)
        self._footer = FOOTER.pack(len(index), MAGIC)
        self.void()
        room.grow(data + len(graph) + regions + len(index) + FOOTER.size)
        end = room.nbytes - FOOTER.size
        for begin, part in ((data, graph), (self._graph_end, bytes(regions)), (end - len(index), index)):
            room.populate(begin, begin + len(part))
            with room.view() as view:
                view[begin : begin + len(part)] = part
        room.populate(end, room.nbytes)
        with room.view() as view:
            view[-FOOTER.size :] = FOOTER.pack(len(index), COPYING)

    def put(self, offset: int, data: bytes | memoryview) -> None:
        """Copy some bytes of the storages. Raises OSError (ENOSPC)."""
        self.room.populate(offset, offset + len(data))
        with self.room.view() as view:
            view[offset : offset + len(data)] = data

    def arrived(self, region: int) -> None:
        """All bytes of a region are there, whatever thread copied them."""
        # Without the GIL, which is a barrier: no processor may show this byte before those that were copied.
        ctypes.memset(self.room.address() + self._graph_end + region, 1, 1)

    def void(self) -> None:
        """Take the footer away, if there is one."""
        if self.room.nbytes >= FOOTER.size:
            self.room.populate(self.room.nbytes - FOOTER.size, self.room.nbytes)
            with self.room.view() as view:
                view[-FOOTER.size :] = bytes(FOOTER.size)

    def finish(self) -> None:
        """Write the footer: from here on the segment is complete."""
        with self.room.view() as view:
            view[-FOOTER.size :] = self._footer

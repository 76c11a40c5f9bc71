"""Writes the storages of a dump to the disk while they are still being copied into shared memory.

A preemption leaves seconds, and the disk takes most of them: it begins when the copy does. What can most likely be
linked (storages that did not change between earlier checkpoints) is left out; the rest is written, then hashed as
soon as the copy no longer needs the memory's bandwidth, and only then the head says what the file holds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ckptd.errors import DumpFailedError
from ckptd.memory.segment import COPYING, MAGIC, Segment, Tensor
from ckptd.store import disk, hashing
from ckptd.store.extents import Extent, write_fast
from ckptd.store.known import Known
from ckptd.store.manifest import FileEntry
from ckptd.store.packing import Step, digest, first_file
from ckptd.store.spilled import head_room, name_entries
from ckptd.store.tensorfile import make_head

LEAST = 16 << 20
"""Bytes: fewer are on the disk in a moment when the copy is complete."""
PAUSE = 0.002
"""Seconds between two looks at whether a region is there: one is copied in about that time."""


class CopyGivenUpError(DumpFailedError):
    """The process has ended, or could not copy all of it."""


@dataclass(frozen=True)
class Early:
    """A tensor file that is written."""

    entry: FileEntry
    digests: dict[str, str]
    """Hash, hex, of each storage in it, by name."""


def write_early(
    segment: Segment,
    known: Known,
    algorithm: str,
    ident: str,
    reserve: Callable[[str, int], int],
    step: Step,
    given_up: Callable[[], bool],
) -> Early | None:
    """Write the first tensor file of the checkpoint ``ident`` as its bytes arrive; None if there are too few.

    ``reserve`` makes a file of that name and size. ``given_up``: whether nobody copies any more.
    Raises OSError, ValueError, and CopyGivenUpError.
    """
    sources = _likely_new(segment.index.tensors, known, algorithm)
    entries, size = [], 0
    for each in sources:
        entries.append(Tensor(each.name, each.dtype, each.nbytes, size))
        size += each.nbytes
    if size < LEAST:
        return None
    start, name = head_room(entries), first_file(ident)
    fd = reserve(name, start + size)
    extents = [
        Extent(start + entry.offset, source.offset, source.nbytes)
        for entry, source in zip(entries, sources, strict=True)
    ]
    failed = threading.Event()
    with segment.data() as data, ThreadPoolExecutor(1) as pool:
        copy = _Copy(segment, data, lambda: failed.is_set() or given_up())

        def describe() -> tuple[list[str], bytes]:
            digests = copy.digests(sources, algorithm)
            return digests, make_head(name_entries(entries, digests), start)

        described = pool.submit(describe)
        try:
            write_fast(fd, copy.view, extents, step, urgent=True, sparing=copy.under_way)
            digests, head = described.result()
        finally:
            failed.set()
    if len(head) != start:
        raise ValueError(f"the head of {name} needs {len(head)} bytes, {start} are free")
    os.lseek(fd, 0, os.SEEK_SET)
    disk.write_all(fd, head)
    os.ftruncate(fd, start + size)
    hasher = hashing.hasher(algorithm)
    hasher.update(head)
    entry = FileEntry(name, start + size, hashing.written(algorithm, hasher), start)
    return Early(entry, {each.name: found for each, found in zip(sources, digests, strict=True)})


def _likely_new(tensors: list[Tensor], known: Known, algorithm: str) -> list[Tensor]:
    """All but what lay in a file that the newest checkpoint took over from one before it."""
    if known.path is None or known.algorithm != algorithm:
        return tensors
    own = first_file(known.path.name.rpartition("-")[2])
    kept = {
        stored.name: stored.nbytes
        for name, pack in known.packs.items()
        if name != own
        for stored in pack.stored.values()
    }
    return [each for each in tensors if kept.get(each.name) != each.nbytes]


class _Copy:
    """The bytes of a segment that are there, and those that are waited for."""

    def __init__(self, segment: Segment, data: memoryview, given_up: Callable[[], bool]) -> None:
        self._segment = segment
        self._data = data
        self._given_up = given_up

    def view(self, offset: int, nbytes: int) -> memoryview:
        """So many bytes, once they are there. Raises CopyGivenUpError."""
        while not self._segment.has(offset, nbytes) and self._segment.stage() != MAGIC:
            self._wait()
        return self._data[offset : offset + nbytes]

    def under_way(self) -> bool:
        """Whether the copy needs the memory's bandwidth still."""
        return self._segment.stage() == COPYING and not self._given_up()

    def digests(self, tensors: list[Tensor], algorithm: str) -> list[str]:
        """The hash of each, once the copy is complete: until then it has the memory to itself."""
        while self._segment.stage() != MAGIC:
            self._wait()
        found = []
        for tensor in tensors:
            with self._data[tensor.offset : tensor.offset + tensor.nbytes] as view:
                found.append(digest(view, algorithm, self._look))
        return found

    def _wait(self) -> None:
        # Asked in this order: a process that ends after its copy was complete has given nothing up.
        gone = self._given_up()
        stage = self._segment.stage()
        if stage != MAGIC and (gone or stage != COPYING):
            raise CopyGivenUpError("the copy was not completed")
        time.sleep(PAUSE)

    def _look(self, _: int) -> None:
        if self._given_up() and self._segment.stage() != MAGIC:
            raise CopyGivenUpError("the copy was not completed")

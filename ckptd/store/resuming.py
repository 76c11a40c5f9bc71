"""The checkpoint that a process resumes from: every byte is verified on its way, by threads that run ahead."""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread
from contextlib import suppress
from pathlib import Path

from ckptd.errors import CkptdError, DamagedError
from ckptd.memory.segment import Segment, Tensor
from ckptd.store import hashing
from ckptd.store.manifest import FileEntry
from ckptd.store.reader import OpenCheckpoint
from ckptd.store.storages import Stored
from ckptd.store.verify import verify_checkpoint

THREADS = 4
CHUNK = 8 << 20
"""Bytes that are hashed at a time, without the GIL."""
AHEAD = 1 << 20
"""Bytes of a storage from which on reading it ahead is worth a thread."""


class ResumingCheckpoint(OpenCheckpoint):
    """What it hands out has the hash that it had when it was written.

    Where the segment that it was written from is still in memory, and has not changed, that is read instead.
    """

    def __init__(self, path: Path, memory: Path | None = None) -> None:
        """``memory``: the segment. Raises DamagedError, RefusedError (this installation can't tell)."""
        manifest = verify_checkpoint(path, data=False)
        if manifest.format == 1:
            verify_checkpoint(path)  # its storages have no hashes of their own
        super().__init__(path)
        self._algorithm = hashing.algorithm_of(self.manifest.graph.hash)
        hashing.hasher(self._algorithm)
        self._segment = _open_segment(memory) if memory is not None else None
        own = self._segment.index.tensors if self._segment is not None else []
        self._in_memory = {each.name: each for each in own}
        self._locks = {name: allocate_lock() for name in self.storages} if manifest.format > 1 else {}
        self._found: dict[str, str] = {}
        """Storages that were looked at: MEMORY, DISK, or what is wrong with it."""
        self._ahead()

    def storage(self, name: str) -> memoryview:
        """The bytes of one storage, read-only, and right. Raises DamagedError."""
        self._verify(name)
        found = self._found.get(name, _DISK)
        if found == _MEMORY:
            return self._memory(self._in_memory[name])
        if found != _DISK:
            raise DamagedError(found)
        return super().storage(name)

    def verify_rest(self) -> None:
        """Verify what nobody has asked for. Raises DamagedError."""
        for name in self._locks:
            self._verify(name)
            if self._found[name] not in (_MEMORY, _DISK):
                raise DamagedError(self._found[name])

    def _verify(self, name: str) -> None:
        """Look at a storage, or wait for the thread that does."""
        lock = self._locks.get(name)
        if lock is None or name in self._found:
            return
        with lock:
            if name not in self._found:
                self._found[name] = self._look(name)

    def _look(self, name: str) -> str:
        stored = self.storages[name]
        copy = self._in_memory.get(name)
        if copy is not None and copy.nbytes == stored.nbytes:
            with self._memory(copy) as view:
                if self._digest(view) == stored.digest:
                    return _MEMORY
        try:
            with super().storage(name) as view:
                if self._digest(view) == stored.digest:
                    return _DISK
        except CkptdError as error:
            return str(error)
        return f"{self.path / stored.file} is damaged: the {self._algorithm} of {name[:80]!r} is another"

    def _memory(self, tensor: Tensor) -> memoryview:
        assert self._segment is not None
        with self._segment.data() as data:
            return data[tensor.offset : tensor.offset + tensor.nbytes]

    def _digest(self, view: memoryview) -> str:
        hasher = hashing.hasher(self._algorithm)
        for start in range(0, view.nbytes, CHUNK):
            with view[start : start + CHUNK] as chunk:
                hasher.update(chunk)
        return hasher.hexdigest()

    def _ahead(self) -> None:
        """Read what is big while the program comes to where it is needed."""
        names = [each.name for each in self.storages.values() if self._is_big(each)]
        work = iter(sorted(names, key=lambda name: (self.storages[name].file, self.tensors[name].offset)))

        def read_some() -> None:
            with suppress(Exception):  # the program's own thread meets it again, and says so
                for name in work:
                    self._verify(name)

        for _ in range(min(THREADS, len(os.sched_getaffinity(0)), len(names))):
            start_new_thread(read_some, ())  # one that the threading module, and the program, know nothing of

    def _is_big(self, stored: Stored) -> bool:
        return stored.nbytes >= AHEAD and stored.name in self._locks

    def _read_graph(self, entry: FileEntry) -> bytes:
        data = super()._read_graph(entry)
        hasher = hashing.hasher(self._algorithm)
        hasher.update(data)
        if hashing.written(self._algorithm, hasher) != entry.hash:
            raise DamagedError(f"{self.path / entry.name} is damaged: its {self._algorithm} is another")
        return data


_MEMORY, _DISK = "in memory", "on the disk"


def _open_segment(path: Path) -> Segment | None:
    try:
        return Segment(path)
    except (CkptdError, OSError, ValueError):
        return None  # the process that had it was overwriting it: the disk has it all

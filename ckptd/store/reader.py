"""Reading checkpoints: which there are, which to trust, and what is in one.

OpenCheckpoint is used inside the training process: nothing that this module imports needs more than
the standard library and msgpack.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ckptd.errors import CkptdError, DamagedError, RefusedError
from ckptd.memory.segment import Tensor
from ckptd.store import compress, disk
from ckptd.store.hold import hold
from ckptd.store.index import entries
from ckptd.store.manifest import GRAPH_ZSTD, FileEntry, Manifest
from ckptd.store.pack import Pack, open_entry
from ckptd.store.storages import Stored
from ckptd.store.verify import read_manifest, read_table, verify_checkpoint

if TYPE_CHECKING:
    from ckptd.store.layout import JobFolder


@dataclass(frozen=True)
class Listed:
    """A checkpoint as a listing sees it: only its manifest was read."""

    path: Path
    manifest: Manifest | None
    error: str = ""
    """Why there is no manifest, one sentence; '' if there is one."""
    newer: bool = False
    """It is of a newer format: not damaged, only not for us."""

    @property
    def step(self) -> int:
        """The step, by the folder's name."""
        return int(self.path.name.partition("-")[0])

    @property
    def id(self) -> str:
        """The checkpoint's id, by the folder's name."""
        return self.path.name.partition("-")[2]


@dataclass(frozen=True)
class Found:
    """A checkpoint to resume from."""

    path: Path
    manifest: Manifest
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    """Newer ones that are damaged, newest first, each with a sentence that says how."""


def list_checkpoints(folder: JobFolder) -> list[Listed]:
    """All checkpoints of a job, oldest first: by branch, step, then time. Raises DamagedError."""
    found = [list_one(entry.path) for entry in entries(folder)]
    return [listed for listed in found if listed.manifest is not None or listed.path.is_dir()]


def newest_valid(folder: JobFolder, *, data: bool = True) -> Found | None:
    """The newest checkpoint that is whole, every byte of it verified; None if the job has none at all.

    With ``data=False`` its bytes are not read: see verify_checkpoint.

    Raises DamagedError if it has some but none is whole, RefusedError if the newest can't be judged here.
    """
    skipped: list[tuple[Path, str]] = []
    for entry in reversed(entries(folder)):
        try:
            manifest = verify_checkpoint(entry.path, data=data)
        except DamagedError as error:
            if entry.path.exists():  # else somebody has removed it meanwhile
                skipped.append((entry.path, str(error)))
            continue
        return Found(entry.path, manifest, skipped)
    if skipped:
        count = "its only checkpoint is" if len(skipped) == 1 else f"all {len(skipped)} checkpoints are"
        raise DamagedError(
            f"job {folder.id} can't be resumed, {count} damaged ({skipped[0][1]}): start over with --fresh"
        )
    return None


def list_one(path: Path) -> Listed:
    """A checkpoint by its folder."""
    try:
        return Listed(path, read_manifest(path))
    except CkptdError as error:
        return Listed(path, None, str(error), newer=isinstance(error, RefusedError))


class OpenCheckpoint:
    """A checkpoint opened for reading; its tensors are mapped, not copied. Use as a context manager.

    It checks manifest, sizes and bounds, not the hashes of the data: verify_checkpoint does that. It stays
    readable when the checkpoint is removed meanwhile, and as long as it is open no ckptd removes it.
    """

    def __init__(self, path: Path) -> None:
        """Raises DamagedError, or RefusedError if the format is newer than ours."""
        self.path = Path(path)
        with ExitStack() as stack:
            self._hold = stack.enter_context(hold(self.path))
            self.manifest = read_manifest(self.path)
            self._graph_fd = open_entry(self.path, self.manifest.graph)
            stack.callback(os.close, self._graph_fd)
            self._packs: dict[str, Pack] = {}
            for entry in self.manifest.packs:
                pack = self._packs[entry.name] = Pack(self.path, entry)
                stack.callback(pack.close)
            self.storages = read_table(self.path, self.manifest, self._packs)
            self.tensors = {name: self._tensor(stored) for name, stored in self.storages.items()}
            self._open = stack.pop_all()

    storages: dict[str, Stored]
    """By name."""
    tensors: dict[str, Tensor]
    """By name; offsets count from the start of the data of the file that holds them."""

    def _tensor(self, stored: Stored) -> Tensor:
        found, squeezed = self._packs[stored.file].find(stored)
        return Tensor(stored.name, stored.dtype, stored.nbytes, 0 if squeezed else found.offset)

    def graph(self) -> bytes:
        """The object graph, msgpack. Raises DamagedError, RefusedError (no zstd here)."""
        entry = self.manifest.graph
        data = self._read_graph(entry)
        if entry.name != GRAPH_ZSTD:
            return data
        return compress.expand(data, self.manifest.graph_nbytes, str(self.path / entry.name))

    def _read_graph(self, entry: FileEntry) -> bytes:
        file, size = self.path / entry.name, entry.nbytes
        parts: list[bytes] = []
        done = 0
        try:
            while done < size and (part := os.pread(self._graph_fd, min(size - done, 1 << 30), done)):
                parts.append(part)
                done += len(part)
        except OSError as error:
            raise DamagedError(f"{file} can't be read: {disk.reason(error)}") from error
        if done != size:
            raise DamagedError(f"{file} ends after {done} bytes, its manifest says {size}")
        return b"".join(parts)

    def storage(self, name: str) -> memoryview:
        """The bytes of one storage, read-only, straight from the file. Raises DamagedError."""
        stored = self.storages.get(name)
        if stored is None:
            raise DamagedError(f"{self.path} holds no tensor {name[:80]!r}, but the graph needs it")
        return self._packs[stored.file].read(stored)

    def close(self) -> None:
        """Drop the mappings. Views handed out before must be gone, else BufferError."""
        self._open.close()

    def __enter__(self) -> OpenCheckpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

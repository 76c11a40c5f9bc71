"""Reading checkpoints: which there are, which to trust, and what is in one.

OpenCheckpoint is used inside the training process: nothing that this module imports needs more than
the standard library and msgpack.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ckptd.errors import CkptdError, DamagedError
from ckptd.memory.segment import Tensor
from ckptd.store import disk
from ckptd.store.manifest import GRAPH, TENSORS, Manifest
from ckptd.store.tensorfile import read_head
from ckptd.store.verify import FOLDER, open_entry, read_manifest, verify_checkpoint

if TYPE_CHECKING:
    from ckptd.store.layout import JobFolder


@dataclass(frozen=True)
class Listed:
    """A checkpoint as a listing sees it: only its manifest was read."""

    path: Path
    manifest: Manifest | None
    error: str = ""
    """Why there is no manifest, one sentence; '' if there is one."""

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
    """All checkpoints of a job, oldest first: by step, then by time. Raises DamagedError."""
    try:
        paths = [path for path in folder.checkpoints.iterdir() if FOLDER.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DamagedError(f"{folder.checkpoints} can't be read: {disk.reason(error)}") from error
    return sorted((_listed(path) for path in paths), key=_age)


def newest_valid(folder: JobFolder) -> Found | None:
    """The newest checkpoint that is whole, every byte of it verified; None if the job has none at all.

    Raises DamagedError if it has some but none is whole, RefusedError if the newest can't be judged here.
    """
    skipped: list[tuple[Path, str]] = []
    for listed in reversed(list_checkpoints(folder)):
        try:
            manifest = verify_checkpoint(listed.path)
        except DamagedError as error:
            skipped.append((listed.path, str(error)))
            continue
        return Found(listed.path, manifest, skipped)
    if skipped:
        count = "its only checkpoint is" if len(skipped) == 1 else f"all {len(skipped)} checkpoints are"
        raise DamagedError(
            f"job {folder.id} can't be resumed, {count} damaged ({skipped[0][1]}): start over with --fresh"
        )
    return None


def _listed(path: Path) -> Listed:
    try:
        return Listed(path, read_manifest(path))
    except CkptdError as error:
        return Listed(path, None, str(error))


def _age(listed: Listed) -> tuple[int, float, str]:
    """Sort key, oldest first. A job that fell back to an older checkpoint comes by the same step twice."""
    if listed.manifest is not None:
        return listed.step, listed.manifest.created, listed.id
    try:
        return listed.step, listed.path.stat().st_mtime, listed.id
    except OSError:
        return listed.step, 0.0, listed.id


class OpenCheckpoint:
    """A checkpoint opened for reading; its tensors are mapped, not copied. Use as a context manager.

    It checks manifest, sizes and bounds, not the hashes of the data: verify_checkpoint does that. It stays
    readable when the checkpoint is removed meanwhile.
    """

    def __init__(self, path: Path) -> None:
        """Raises DamagedError, or RefusedError if the format is newer than ours."""
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self._graph_fd = open_entry(self.path, self.manifest.file(GRAPH))
        try:
            fd = open_entry(self.path, self.manifest.file(TENSORS))
            try:
                self._map = self._mapped(fd)
            finally:
                os.close(fd)
            self._view = memoryview(self._map)
            try:
                self._start, self.tensors = read_head(self._view, str(self.path / TENSORS))
            except BaseException:
                self._view.release()
                self._map.close()
                raise
        except BaseException:
            os.close(self._graph_fd)
            raise

    tensors: dict[str, Tensor]
    """By name; offsets count from the start of the data."""

    def _mapped(self, fd: int) -> mmap.mmap:
        try:
            return mmap.mmap(fd, self.manifest.file(TENSORS).nbytes, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DamagedError(f"{self.path / TENSORS} can't be mapped: {error}") from error

    def graph(self) -> bytes:
        """The object graph, msgpack. Raises DamagedError."""
        size = self.manifest.file(GRAPH).nbytes
        parts: list[bytes] = []
        done = 0
        try:
            while done < size and (part := os.pread(self._graph_fd, min(size - done, 1 << 30), done)):
                parts.append(part)
                done += len(part)
        except OSError as error:
            raise DamagedError(f"{self.path / GRAPH} can't be read: {disk.reason(error)}") from error
        if done != size:
            raise DamagedError(f"{self.path / GRAPH} ends after {done} bytes, its manifest says {size}")
        return b"".join(parts)

    def storage(self, name: str) -> memoryview:
        """The bytes of one storage, read-only, straight from the file. Raises DamagedError."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise DamagedError(f"{self.path / TENSORS} holds no tensor {name[:80]!r}, but the graph needs it")
        begin = self._start + tensor.offset
        return self._view[begin : begin + tensor.nbytes]

    def close(self) -> None:
        """Drop the mapping. Views handed out before must be gone, else BufferError."""
        if self._graph_fd < 0:
            return
        self._view.release()
        self._map.close()
        os.close(self._graph_fd)
        self._graph_fd = -1

    def __enter__(self) -> OpenCheckpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

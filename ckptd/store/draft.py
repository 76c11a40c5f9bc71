"""A checkpoint in the making: its files, which nobody takes for a checkpoint yet. See docs/format.md."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from ckptd.errors import DumpFailedError
from ckptd.memory.segment import Segment, Spill
from ckptd.store import compress, disk, hashing
from ckptd.store.early import Early, write_early
from ckptd.store.known import Known
from ckptd.store.layout import JobFolder
from ckptd.store.manifest import GRAPH, GRAPH_ZSTD, TABLE, FileEntry, Manifest
from ckptd.store.packing import PackFile, Plan, make_plan, write_view
from ckptd.store.resting import Resting
from ckptd.store.spilled import take_spilled
from ckptd.store.storages import encode_table
from ckptd.store.sweep import begin_work, sweep_work

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Way:
    """How a checkpoint is written."""

    known: Known
    """What may be linked; the new checkpoint takes its place."""
    squeeze: bool = False
    """Compress tensors where they get smaller."""
    algorithm: str = ""
    """Of hashes; '' for the fastest there is."""
    progress: Progress | None = None
    """Called with (bytes written, bytes to write)."""
    cancelled: Callable[[], bool] | None = None
    """Asked between chunks."""
    hurried: Callable[[], bool] = lambda: False
    """Whether there is no time to read again what is linked."""
    rest: Resting | None = None
    """Taken between pieces of the work; None: somebody waits."""


class _CancelledError(DumpFailedError):
    """The caller doesn't want the checkpoint any more."""


class Draft:
    """The files of one checkpoint while they are written. Holds the lock that shows that we are alive."""

    def __init__(self, folder: JobFolder, ident: str, way: Way, total: int) -> None:
        """``ident``: the checkpoint's id. ``total``: bytes to write, as far as known."""
        self.ident = ident
        self.work = folder.work / ident
        self.total = total
        self._folder = folder
        self._way = way
        self._done = 0
        self._fds: dict[str, int] = {}
        self._early: Early | None = None

    def begin(self) -> None:
        """Make the work folder, and show that we are alive. Raises OSError."""
        disk.make_folder(self._folder.checkpoints)
        disk.make_folder(self._folder.work)
        sweep_work(self._folder)
        self._fds[TABLE] = begin_work(self.work)

    def close(self) -> None:
        """Let the lock go. Not before the folder has its name: until then it would be taken for a dead writer's."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def drop(self) -> None:
        """Remove what was begun; where the disk doesn't let us, sweep() tries again."""
        disk.remove_folder(self.work)
        self.close()

    def follow(self, segment: Segment, given_up: Callable[[], bool]) -> bool:
        """Write what is most of a dump while it is being copied; False if that is not worth it.

        Raises OSError, ValueError, and CopyGivenUpError where the copy was (``given_up`` is asked for that, too).
        """
        algorithm = self._way.algorithm or hashing.fastest()
        if self._way.squeeze or segment.index.spill is not None:
            return False
        self._early = write_early(
            segment, self._way.known, algorithm, self.ident, self._reserve, self._step, given_up
        )
        return self._early is not None

    def write(self, segment: Segment, manifest: Manifest) -> Manifest:
        """Write all files but the manifest; returns it complete. Raises OSError, DumpFailedError, ValueError."""
        if segment.index.spill is not None:
            return self._write_spilled(segment, manifest, segment.index.spill)
        algorithm = self._way.algorithm or hashing.fastest()
        with segment.data() as data, segment.graph() as graph:
            early = self._early
            plan = make_plan(
                data,
                segment.index.tensors,
                manifest.id,
                self.work,
                self._way.known,
                algorithm,
                self._step,
                self._way.hurried,
                early.digests if early is not None else {},
            )
            try:
                files = self._write_all(plan, graph)
            finally:
                plan.release()
            if early is not None:
                files.append(early.entry)
        return replace(
            manifest,
            files=[*files, *plan.linked],
            content=segment.data_nbytes + segment.index.graph_nbytes,
            graph_nbytes=segment.index.graph_nbytes,
            written=sum(entry.nbytes for entry in files),
        )

    def _write_spilled(self, segment: Segment, manifest: Manifest, spill: Spill) -> Manifest:
        """The same where the storages are on the disk already: their file becomes the tensor file."""
        name, plan, entry = take_spilled(segment.index.tensors, spill, manifest.id, self.work)
        self._fds[name] = disk.open_file(self.work / name)
        with segment.graph() as graph:
            files = [entry, *self._write_all(plan, graph)]
        return replace(
            manifest,
            files=files,
            content=segment.data_nbytes + segment.index.graph_nbytes,
            graph_nbytes=segment.index.graph_nbytes,
            written=sum(each.nbytes for each in files),
        )

    def _write_all(self, plan: Plan, graph: memoryview) -> list[FileEntry]:
        packs = [PackFile(name, items, squeeze=self._way.squeeze) for name, items in plan.new.items()]
        squeezed = compress.available() and graph.nbytes > 0
        graph_file = GRAPH_ZSTD if squeezed else GRAPH
        graph_data = compress.squeeze(graph) if squeezed else graph
        rest = {TABLE: encode_table(plan.algorithm, plan.stored), graph_file: graph_data}
        self.total = sum(pack.room for pack in packs) + sum(len(data) for data in rest.values())
        for pack in packs:
            self._reserve(pack.name, pack.room)
        for name, data in rest.items():
            self._reserve(name, len(data))
        urgent = self._way.hurried()
        files = [
            pack.write(self._fds[pack.name], plan.algorithm, self._step, plan.data, urgent=urgent)
            for pack in packs
        ]
        for name, data in rest.items():
            hasher = hashing.hasher(plan.algorithm)
            hasher.update(data)
            with memoryview(data) as view:
                write_view(self._fds[name], view, self._step)
            files.append(FileEntry(name, len(data), hashing.written(plan.algorithm, hasher), len(data)))
        for fd in self._fds.values():
            os.fsync(fd)
        return files

    def _create(self, name: str) -> int:
        fd = self._fds[name] = disk.create_file(self.work / name)
        return fd

    def _reserve(self, name: str, size: int) -> int:
        """Take the room now, so that a full disk is found before anything is written; the file. Raises OSError."""
        fd = self._fds[name] if name in self._fds else self._create(name)
        if size == 0:
            return fd
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            # This file system can't reserve room: what is free now is the best that can be known.
            free = os.fstatvfs(fd)
            if free.f_bavail * free.f_frsize < size:
                raise OSError(errno.ENOSPC, "no space left on device") from error
        return fd

    def _step(self, count: int) -> None:
        self._done += count
        if self._way.cancelled is not None and self._way.cancelled():
            raise _CancelledError(f"the dump into {self.work.parent} was given up")
        if count and self._way.progress is not None:
            self._way.progress(self._done, self.total)
        if self._way.rest is not None:
            self._way.rest.take()

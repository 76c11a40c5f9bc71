"""From a segment in memory to a checkpoint on the disk: data first, the name last. See docs/format.md."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ckptd.errors import DumpFailedError
from ckptd.memory.segment import Segment, Spill
from ckptd.store import compress, disk, hashing, index
from ckptd.store.environment import masked
from ckptd.store.known import Known
from ckptd.store.layout import JobFolder
from ckptd.store.manifest import GRAPH, GRAPH_ZSTD, MANIFEST, TABLE, FileEntry, Manifest, encode
from ckptd.store.packing import PackFile, Plan, make_plan, write_view
from ckptd.store.quantity import bytes_text
from ckptd.store.spilled import take_spilled
from ckptd.store.storages import encode_table
from ckptd.store.sweep import begin_work, sweep_work
from ckptd.store.tensorfile import make_head

Progress = Callable[[int, int], None]


class NoRoomError(DumpFailedError):
    """The disk is full, or the user's quota used up. ``needed``: bytes."""

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message)
        self.needed = needed


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


def write_checkpoint(
    folder: JobFolder, segment: Segment, manifest: Manifest, way: Way | None = None
) -> tuple[Path, Manifest]:
    """Make a dump durable; returns the checkpoint's folder and its manifest.

    ``manifest`` says everything but the files; the segment's facts are added to its own. Raises
    DumpFailedError (NoRoomError where room is all that is missing), after removing what was begun; older
    checkpoints are not touched.
    """
    if manifest.job != folder.id:
        raise ValueError(f"a checkpoint of job {manifest.job} doesn't belong into {folder.path}")
    way = way or Way(Known())
    manifest = replace(manifest, facts=_facts({**segment.index.facts, **manifest.facts}))
    work, final = folder.work / manifest.id, folder.checkpoints / manifest.folder
    job = _Job(work, way, segment.data_nbytes + segment.index.graph_nbytes)
    try:
        make_head(segment.index.tensors)  # raises ValueError if they overlap, or leave holes
        disk.make_folder(folder.checkpoints)
        disk.make_folder(folder.work)
        sweep_work(folder)
        job.begin()
        try:
            manifest = job.write(segment, manifest)
            _commit(work, final, encode(manifest))
        except BaseException:
            disk.remove_folder(work)  # where the disk doesn't let us, sweep() tries again
            raise
        finally:
            job.close()  # not before it has its name: until then `ckptd prune` would take it for a dead writer's
    except OSError as error:
        raise _failure(folder, error, job.total) from error
    except ValueError as error:
        raise DumpFailedError(f"the dump can't be stored in {folder.path}: {error}") from error
    way.known.trust(final, manifest, way.known.checked())
    with suppress(OSError):  # listings are right without it
        index.add(folder, final, manifest)
    return final, manifest


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts as they may be stored: the command without secrets."""
    words = {key: masked(facts[key]) for key in ("argv", "orig_argv") if isinstance(facts.get(key), list)}
    return {**facts, **words}


class _CancelledError(DumpFailedError):
    """The caller doesn't want the checkpoint any more."""


class _Job:
    """The files of one checkpoint while they are written. Holds the lock that shows that we are alive."""

    def __init__(self, work: Path, way: Way, total: int) -> None:
        self.work = work
        self.way = way
        self.total = total
        """Bytes to write, as far as known."""
        self._done = 0
        self._fds: dict[str, int] = {}

    def begin(self) -> None:
        """Make the work folder, and show that we are alive. Raises OSError."""
        self._fds[TABLE] = begin_work(self.work)

    def close(self) -> None:
        """Let the lock go."""
        for fd in self._fds.values():
            os.close(fd)

    def write(self, segment: Segment, manifest: Manifest) -> Manifest:
        """Write all files but the manifest; returns it complete. Raises OSError, DumpFailedError, ValueError."""
        if segment.index.spill is not None:
            return self._write_spilled(segment, manifest, segment.index.spill)
        algorithm = self.way.algorithm or hashing.fastest()
        with segment.data() as data, segment.graph() as graph:
            plan = make_plan(
                data,
                segment.index.tensors,
                manifest.id,
                self.work,
                self.way.known,
                algorithm,
                self._step,
                self.way.hurried,
            )
            try:
                files = self._write_all(plan, graph)
            finally:
                plan.release()
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
        packs = [PackFile(name, items, squeeze=self.way.squeeze) for name, items in plan.new.items()]
        squeezed = compress.available() and graph.nbytes > 0
        graph_file = GRAPH_ZSTD if squeezed else GRAPH
        graph_data = compress.squeeze(graph) if squeezed else graph
        rest = {TABLE: encode_table(plan.algorithm, plan.stored), graph_file: graph_data}
        self.total = sum(pack.room for pack in packs) + sum(len(data) for data in rest.values())
        for pack in packs:
            self._reserve(pack.name, pack.room)
        for name, data in rest.items():
            self._reserve(name, len(data))
        urgent = self.way.hurried()
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

    def _reserve(self, name: str, size: int) -> None:
        """Take the room now, so that a full disk is found before anything is written. Raises OSError."""
        fd = self._fds[name] if name in self._fds else self._create(name)
        if size == 0:
            return
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            # This file system can't reserve room: what is free now is the best that can be known.
            free = os.fstatvfs(fd)
            if free.f_bavail * free.f_frsize < size:
                raise OSError(errno.ENOSPC, "no space left on device") from error

    def _step(self, count: int) -> None:
        self._done += count
        if self.way.cancelled is not None and self.way.cancelled():
            raise _CancelledError(f"the dump into {self.work.parent} was given up")
        if count and self.way.progress is not None:
            self.way.progress(self._done, self.total)


def _commit(work: Path, final: Path, text: bytes) -> None:
    """The manifest, then the name. Raises OSError; the folder has its old name then."""
    fd = disk.create_file(work / MANIFEST)
    try:
        disk.write_all(fd, text)
        os.fsync(fd)
    finally:
        os.close(fd)
    publish(work, final)


def publish(work: Path, final: Path) -> None:
    """Give a complete work folder the name that makes it a checkpoint, durably.

    Raises OSError; the folder has its old name then.
    """
    disk.sync_folder(work)
    if final.exists():
        raise FileExistsError(errno.EEXIST, "a checkpoint of this step and id is there already", str(final))
    work.rename(final)
    try:
        disk.sync_folder(final.parent)
    except BaseException:
        final.rename(work)  # it may not last: then it is none
        raise


def _failure(folder: JobFolder, error: OSError, needed: int) -> DumpFailedError:
    """What went wrong, where, and the way out."""
    place, size = folder.checkpoints, bytes_text(needed)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        try:
            free = bytes_text(shutil.disk_usage(folder.path).free)
        except OSError:
            free = "less"
        full = "has no room left" if error.errno == errno.ENOSPC else "has used up your disk quota"
        return NoRoomError(
            f"{place} {full}: the checkpoint needs {size}, {free} free; make room or name another --store",
            needed,
        )
    if error.errno == errno.EFBIG:
        return DumpFailedError(
            f"a checkpoint of {size} in {place} is over the file size limit: raise it (ulimit -f)"
        )
    return DumpFailedError(
        f"can't write a checkpoint into {place}: {disk.reason(error)}; check it, or name another --store"
    )

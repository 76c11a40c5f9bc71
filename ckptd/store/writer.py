"""From a segment in memory to a checkpoint on the disk: data first, the name last. See docs/format.md."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ckptd.errors import DumpFailedError
from ckptd.memory.segment import Segment
from ckptd.store import disk, hashing
from ckptd.store.layout import JOB_FILE, WORK, JobFolder
from ckptd.store.manifest import GRAPH, MANIFEST, TENSORS, FileEntry, Manifest, encode
from ckptd.store.quantity import bytes_text
from ckptd.store.tensorfile import make_head

CHUNK = 4 << 20
"""Bytes hashed and written at a time."""

Progress = Callable[[int, int], None]


def write_checkpoint(
    folder: JobFolder,
    segment: Segment,
    manifest: Manifest,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    algorithm: str | None = None,
) -> tuple[Path, Manifest]:
    """Make a dump durable; returns the checkpoint's folder and its manifest.

    ``manifest`` says everything but the files; the segment's facts are added to its own. ``progress`` is
    called with (bytes done, bytes in all), ``cancelled`` is asked between chunks. Raises DumpFailedError,
    after removing what was begun; older checkpoints are not touched.
    """
    if manifest.job != folder.id:
        raise ValueError(f"a checkpoint of job {manifest.job} doesn't belong into {folder.path}")
    manifest = replace(manifest, facts={**segment.index.facts, **manifest.facts})
    work = folder.checkpoints / f"{WORK}{manifest.id}"
    final = folder.checkpoints / manifest.folder
    try:
        head = make_head(segment.index.tensors)
        disk.make_folder(folder.checkpoints)
        _sweep_work(folder)
        if not disk.make_folder(work):
            raise FileExistsError(errno.EEXIST, "another process writes a checkpoint of this id", str(work))
        try:
            with (
                segment.data() as data,
                segment.graph() as graph,
                _Writing(work, algorithm or hashing.fastest(), progress, cancelled) as writing,
            ):
                files = writing.write({TENSORS: [memoryview(head), data], GRAPH: [graph]})
                manifest = replace(manifest, files=files)
                _commit(work, final, encode(manifest))
        except BaseException:
            _discard(work)
            raise
    except OSError as error:
        total = segment.data_nbytes + segment.index.graph_nbytes
        raise DumpFailedError(_sentence(folder, error, total)) from error
    except ValueError as error:
        raise DumpFailedError(f"the dump can't be stored in {folder.path}: {error}") from error
    return final, manifest


def sweep(folder: JobFolder) -> list[Path]:
    """Remove what killed writers left; returns what is gone. Call it with the job's lock held."""
    gone = _sweep_work(folder)
    # Only the holder of the job's lock writes job.json, so a part of one is nobody's.
    for path in folder.path.glob(f"{WORK}{JOB_FILE}-*"):
        with suppress(OSError):
            path.unlink()
            gone.append(path)
    return gone


class _Cancelled(DumpFailedError):
    """The caller doesn't want the checkpoint any more."""


class _Writing:
    """The files of one checkpoint while they are written. Holds the lock that shows that we are alive."""

    def __init__(
        self, work: Path, algorithm: str, progress: Progress | None, cancelled: Callable[[], bool] | None
    ) -> None:
        self.work = work
        self.algorithm = algorithm
        self.progress = progress
        self.cancelled = cancelled
        self.fds: dict[str, int] = {}

    def __enter__(self) -> _Writing:
        fd = self.fds[TENSORS] = disk.create_file(self.work / TENSORS)
        with suppress(OSError):  # a file system without locks: then nobody else can look for one either
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self

    def __exit__(self, *exc: object) -> None:
        for fd in self.fds.values():
            os.close(fd)

    def write(self, files: dict[str, Sequence[memoryview]]) -> list[FileEntry]:
        """Write all files and make them durable. Raises OSError, DumpFailedError."""
        sizes = {name: sum(part.nbytes for part in parts) for name, parts in files.items()}
        for name, size in sizes.items():
            if name not in self.fds:
                self.fds[name] = disk.create_file(self.work / name)
            _reserve(self.fds[name], size)
        done, total = 0, sum(sizes.values())
        entries = []
        for name, parts in files.items():
            hasher = hashing.hasher(self.algorithm)
            for part in parts:
                for start in range(0, part.nbytes, CHUNK):
                    if self.cancelled is not None and self.cancelled():
                        raise _Cancelled(f"the dump into {self.work.parent} was given up")
                    with part[start : start + CHUNK] as chunk:
                        hasher.update(chunk)
                        disk.write_all(self.fds[name], chunk)
                        done += chunk.nbytes
                    if self.progress is not None:
                        self.progress(done, total)
            entries.append(FileEntry(name, sizes[name], hashing.written(self.algorithm, hasher)))
        for fd in self.fds.values():
            os.fsync(fd)
        return entries


def _reserve(fd: int, size: int) -> None:
    """Take the room now, so that a full disk is found before anything is written. Raises OSError."""
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


def _commit(work: Path, final: Path, text: bytes) -> None:
    """The manifest, then the name. Raises OSError; the folder has its old name then."""
    fd = disk.create_file(work / MANIFEST)
    try:
        disk.write_all(fd, text)
        os.fsync(fd)
    finally:
        os.close(fd)
    disk.sync_folder(work)
    if final.exists():
        raise FileExistsError(errno.EEXIST, "a checkpoint of this step and id is there already", str(final))
    work.rename(final)
    try:
        disk.sync_folder(final.parent)
    except BaseException:
        final.rename(work)  # it may not last: then it is none
        raise


def _discard(work: Path) -> None:
    """Remove a work folder. Where the disk doesn't let us, sweep() tries again."""
    disk.remove_folder(work)


def _sweep_work(folder: JobFolder) -> list[Path]:
    """Remove the work folders of writers that are no more."""
    left = list(folder.checkpoints.glob(f"{WORK}*"))
    return [path for path in left if not _alive(path) and disk.remove_folder(path)]


def _alive(work: Path) -> bool:
    """Whether somebody holds the lock of a work folder."""
    try:
        fd = os.open(work / TENSORS, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False  # a writer that got no further than its folder, or a removal that got almost to its end
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks on this file system
    finally:
        os.close(fd)
    return False


def _sentence(folder: JobFolder, error: OSError, needed: int) -> str:
    """What went wrong, where, and the way out."""
    place, size = folder.checkpoints, bytes_text(needed)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        try:
            free = bytes_text(shutil.disk_usage(folder.path).free)
        except OSError:
            free = "less"
        full = "has no room left" if error.errno == errno.ENOSPC else "has used up your disk quota"
        return f"{place} {full}: the checkpoint needs {size}, {free} free; make room or name another --store"
    if error.errno == errno.EFBIG:
        return f"a checkpoint of {size} in {place} is over the file size limit: raise it (ulimit -f)"
    return f"can't write a checkpoint into {place}: {disk.reason(error)}; check it, or name another --store"

"""Checkpoints from one store into another."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ckptd.errors import CkptdError, DamagedError, NoStoreError
from ckptd.store import disk, index
from ckptd.store.hold import hold
from ckptd.store.layout import JOB_FILE, JobFolder, Store
from ckptd.store.manifest import MANIFEST, PACK, FileEntry
from ckptd.store.pins import PIN
from ckptd.store.sweep import begin_work
from ckptd.store.verify import read_manifest, verify_checkpoint
from ckptd.store.writer import publish

CHUNK = 4 << 20
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Copied:
    """What became of one checkpoint."""

    path: Path
    """In the other store."""
    nbytes: int
    """Written there; 0 if it was there already."""


def copy_checkpoint(
    source: JobFolder, path: Path, target: Store, advance: Advance = lambda _: None
) -> Copied:
    """Copy the checkpoint ``path`` of a job into the same job of another store, and verify the copy.

    Tensor files that the other store has already are linked there. ``advance`` is called with bytes copied.
    Raises DamagedError if the source is, NoStoreError if the target can't take it.
    """
    folder = target.job(source.id)
    final = folder.checkpoints / path.name
    if final.exists():
        return Copied(final, 0)
    try:
        _make_job(source, folder)
        with hold(path):
            return _copy(path, folder, final, advance)
    except OSError as error:
        full = " (make room there)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise NoStoreError(f"can't copy {path} to {folder.path}: {disk.reason(error)}{full}") from error


def _make_job(source: JobFolder, folder: JobFolder) -> None:
    folder.make()
    if not (folder.path / JOB_FILE).exists():
        with suppress(CkptdError):  # a job whose record is damaged can be copied without it
            record = source.load()
            state = "unfinished" if record.state == "failed" else record.state
            folder.save(replace(record, state=state, extra={}))
    disk.make_folder(folder.work)


def _copy(path: Path, folder: JobFolder, final: Path, advance: Advance) -> Copied:
    manifest = read_manifest(path)
    outer = folder.work / f"copy-{manifest.id}-{os.getpid()}"
    try:
        lock = begin_work(outer)
        try:
            for link in (True, False):
                work = outer / path.name
                disk.make_folder(work)
                written = sum(
                    _take(path, entry, work, folder if link else None, advance) for entry in manifest.files
                )
                for name in (MANIFEST, PIN):
                    if (path / name).exists():
                        _copy_file(path / name, work / name, lambda _: None)
                try:
                    verify_checkpoint(work)
                    break
                except DamagedError:
                    verify_checkpoint(path)  # raises if the source is what is damaged
                    if not link:
                        raise
                    shutil.rmtree(work)  # what was linked there is: copy everything
            publish(work, final)
        finally:
            os.close(lock)
    finally:
        disk.remove_folder(outer)
    with suppress(OSError):  # listings are right without it
        index.add(folder, final, manifest)
    return Copied(final, written)


def _take(path: Path, entry: FileEntry, work: Path, folder: JobFolder | None, advance: Advance) -> int:
    """Bring one file into ``work``; returns bytes written."""
    if folder is not None and PACK.fullmatch(entry.name):
        for name in reversed(index.folder_names(folder)):
            with suppress(OSError):
                if (folder.checkpoints / name / entry.name).stat().st_size == entry.nbytes:
                    os.link(folder.checkpoints / name / entry.name, work / entry.name, follow_symlinks=False)
                    advance(entry.nbytes)
                    return 0
    return _copy_file(path / entry.name, work / entry.name, advance)


def _copy_file(source: Path, to: Path, advance: Advance) -> int:
    """Copy a file and make it durable; returns its length. Raises OSError."""
    done = 0
    with open(disk.open_file(source), "rb") as file:
        fd = disk.create_file(to)
        try:
            while chunk := file.read(CHUNK):
                disk.write_all(fd, chunk)
                done += len(chunk)
                advance(len(chunk))
            os.fsync(fd)
        finally:
            os.close(fd)
    return done

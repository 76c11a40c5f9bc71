"""One checkpoint from a remote into a store: in parallel, each piece compared, verified as a whole, then listed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ckptd.errors import DamagedError, NoStoreError, RefusedError
from ckptd.remote.backend import absent
from ckptd.remote.job import Entry, RemoteJob
from ckptd.remote.lanes import in_lanes
from ckptd.remote.patience import USUAL, Patience, Stop, insist
from ckptd.remote.pieces import Piece, PiecedFile, digest
from ckptd.store import disk, index
from ckptd.store.layout import JOB_FILE, JobFolder
from ckptd.store.manifest import MANIFEST, is_pack
from ckptd.store.pins import write_mark
from ckptd.store.retention import Mark
from ckptd.store.sweep import begin_work
from ckptd.store.verify import verify_checkpoint
from ckptd.store.writer import publish

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Fetched:
    """What came down."""

    path: Path
    entry: Entry
    nbytes: int
    """Read from the remote."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Newer ones that are damaged there, by name, each with a sentence."""


def fetch_latest(
    job: RemoteJob, folder: JobFolder, *, patience: Patience = USUAL, advance: Advance = lambda _: None
) -> Fetched | None:
    """Bring the remote's latest checkpoint into a store, or where it is damaged the one before; None: it has none.

    Raises DamagedError (none is whole), RemoteError, RefusedError, NoStoreError.
    """
    stop = Stop()
    name = insist(job.latest, patience, stop)
    if not name:
        return None
    skipped: list[tuple[str, str]] = []
    older: list[str] | None = None
    while True:
        try:
            entry = insist(lambda name=name: job.load_entry(name), patience, stop)  # type: ignore[misc]
            fetched = fetch(job, entry, folder, patience=patience, advance=advance)
            return replace(fetched, skipped=tuple(skipped))
        except DamagedError as error:
            skipped.append((name, str(error)))
        if older is None:
            found = insist(job.entries, patience, stop)[0]
            begun = max((each.begun for each in found), default=0.0)
            older = [each.name for each in found if each.begun == begun and each.name != name]
        if not older:
            raise DamagedError(
                f"job {job.id} can't be resumed from {job.backend.url}, no checkpoint there is whole "
                f"({skipped[0][1]}): start over with --fresh"
            )
        name = older.pop()


def fetch(
    job: RemoteJob, entry: Entry, folder: JobFolder, *, patience: Patience = USUAL,
    advance: Advance = lambda _: None,
) -> Fetched:  # fmt: skip
    """Bring one checkpoint into a store; it is listed there when every byte of it is right.

    Tensor files that the store has already are linked. ``advance`` is called with bytes that are there.
    Raises DamagedError (the remote's is), RemoteError, NoStoreError.
    """
    final = folder.checkpoints / entry.name
    if final.exists():
        return Fetched(final, entry, 0)
    try:
        folder.make()
        disk.make_folder(folder.work)
        return Fetched(final, entry, _fetch(job, entry, folder, final, patience, advance))
    except OSError as error:
        full = " (make room there)" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise NoStoreError(
            f"can't bring checkpoint {entry.name} to {folder.path}: {disk.reason(error)}{full}"
        ) from error


def _fetch(
    job: RemoteJob, entry: Entry, folder: JobFolder, final: Path, patience: Patience, advance: Advance
) -> int:
    outer = folder.work / f"fetch-{entry.manifest.id}-{os.getpid()}"
    lock = begin_work(outer)
    try:
        for link in (True, False):
            work = outer / entry.name
            disk.make_folder(work)
            read = _take_all(job, entry, work, folder if link else None, patience, advance)
            fd = disk.create_file(work / MANIFEST)
            try:
                disk.write_all(fd, entry.text.encode("utf-8", "surrogateescape"))
                os.fsync(fd)
            finally:
                os.close(fd)
            if entry.mark != Mark():
                write_mark(work, entry.mark)
            try:
                verify_checkpoint(work)
                break
            except DamagedError:
                if not link:
                    raise
                disk.remove_folder(work)  # what was linked may be what is damaged: read everything
        publish(work, final)
    finally:
        os.close(lock)
        disk.remove_folder(outer)
    with suppress(OSError):  # listings are right without it
        index.add(folder, final, entry.manifest)
    return read


@dataclass(frozen=True)
class _Place:
    """Where a piece goes."""

    fd: int
    begin: int
    piece: Piece


def _take_all(
    job: RemoteJob, entry: Entry, work: Path, folder: JobFolder | None, patience: Patience, advance: Advance
) -> int:
    """Bring all files but the manifest into ``work``, durably; returns bytes read. Raises OSError."""
    fds: list[int] = []
    places: list[_Place] = []
    stop = Stop()
    try:
        for file in entry.files:
            if folder is not None and _link(folder, file, work):
                advance(file.nbytes)
                continue
            fd = disk.create_file(work / file.name)
            fds.append(fd)
            _reserve(fd, file.nbytes)
            places += [_Place(fd, begin, piece) for begin, piece in file.spans()]

        def take(place: _Place) -> None:
            data = insist(lambda: _read(job, place.piece), patience, stop)
            done = 0
            while done < len(data):
                done += os.pwrite(place.fd, data[done:], place.begin + done)
            advance(done)

        in_lanes(places, take)
        for fd in fds:
            os.fsync(fd)
    finally:
        for fd in fds:
            os.close(fd)
    return sum(place.piece.nbytes for place in places)


def _reserve(fd: int, nbytes: int) -> None:
    """Take the room before anything is read. Raises OSError."""
    if nbytes:
        try:
            os.posix_fallocate(fd, 0, nbytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


def _link(folder: JobFolder, file: PiecedFile, work: Path) -> bool:
    """Link a tensor file that another checkpoint of the store has."""
    if not is_pack(file.name):
        return False
    for name in reversed(index.folder_names(folder)):
        with suppress(OSError):
            if (folder.checkpoints / name / file.name).stat().st_size == file.nbytes:
                os.link(folder.checkpoints / name / file.name, work / file.name, follow_symlinks=False)
                return True
    return False


def _read(job: RemoteJob, piece: Piece) -> bytes:
    """A piece as it must be. Raises DamagedError; RemoteError where another try may bring it."""
    data = job.backend.read(job.path(piece.name), piece.nbytes)
    if data is None:
        raise DamagedError(str(absent(job.backend.url, job.path(piece.name))))
    if len(data) != piece.nbytes or digest(data) != piece.hash:
        again = job.backend.read(job.path(piece.name), piece.nbytes)  # spoiled there, or on the way?
        if again is None or len(again) != piece.nbytes or digest(again) != piece.hash:
            raise DamagedError(f"{job.where(piece.name)} is damaged: its bytes are not those of its name")
        return again
    return data


def fetch_record(job: RemoteJob, folder: JobFolder) -> None:
    """Bring the job's record into a store that has none. Raises RemoteError, NoStoreError."""
    if (folder.path / JOB_FILE).exists():
        return
    with suppress(DamagedError, RefusedError):  # checkpoints can be copied without it
        record = job.load_record()
        if record is not None:
            extra = {name: value for name, value in record.extra.items() if name not in ("command", "state")}
            folder.save(replace(record, extra=extra))

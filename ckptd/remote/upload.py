"""One checkpoint from a store to a remote: pieces first, each compared; then its entry; then ``latest``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ckptd.errors import DamagedError, RefusedError, RemoteError
from ckptd.remote.backend import absent
from ckptd.remote.job import Entry, RemoteJob
from ckptd.remote.journal import Journal
from ckptd.remote.lanes import in_lanes
from ckptd.remote.patience import USUAL, Patience, Stop, insist
from ckptd.remote.pieces import Piece, PiecedFile, cut_checkpoint, read_piece
from ckptd.store import disk
from ckptd.store.hold import hold
from ckptd.store.manifest import MANIFEST, MAX_BYTES
from ckptd.store.pins import read_mark
from ckptd.store.verify import read_manifest

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Uploaded:
    """What an upload did."""

    entry: Entry
    nbytes: int
    """Sent; the rest was there."""


@dataclass(frozen=True)
class _Place:
    """Where a piece lies in the store."""

    file: Path
    begin: int
    piece: Piece


def upload(
    job: RemoteJob, path: Path, begun: float, journal: Journal, *, patience: Patience = USUAL,
    stop: Stop | None = None, may: Callable[[], None] = lambda: None, latest: bool = True,
    advance: Advance = lambda _: None,
) -> Uploaded:  # fmt: skip
    """Upload the checkpoint ``path``; returns when all of it is at the remote, and found right there.

    ``begun``: as ``created`` in the job's record. ``may`` raises if the job is not ours any more; it is asked
    right before anything can be seen by others. ``advance`` is called with bytes that are there. Raises
    DamagedError (the local one is), RemoteError, RefusedError.
    """
    stop = stop or Stop()
    with hold(path):
        manifest = read_manifest(path)
        text = disk.read_file(path / MANIFEST, MAX_BYTES).decode("utf-8", "surrogateescape")
        files: list[PiecedFile] = []
        for entry, file in cut_checkpoint(path, manifest, journal.files):
            stop.check()
            files.append(file)
            if entry in manifest.packs:
                journal.files[file.name] = file
        _note(journal)
        done = Entry(manifest, text, begun, tuple(files), read_mark(path))
        sent = _send(job, path, done, journal, patience, stop, advance)
    _complete(job, done, patience, stop)
    may()
    insist(lambda: job.save_entry(done), patience, stop)
    if latest:
        may()
        insist(lambda: job.move_latest(done), patience, stop)
        journal.uploaded = done.name
        _note(journal)
    return Uploaded(done, sent)


def _note(journal: Journal) -> None:
    """Write the journal, with what the store still has."""
    keep = {file.name for file in journal.folder.checkpoints.glob("*/*.safetensors")}
    try:
        journal.save(keep)
    except OSError:
        return  # it only saves work; a disk that is full is reported by who needs it


def _send(
    job: RemoteJob,
    path: Path,
    entry: Entry,
    journal: Journal,
    patience: Patience,
    stop: Stop,
    advance: Advance,
) -> int:
    """Upload the pieces that the remote doesn't have; returns bytes sent."""
    there = insist(job.objects, patience, stop)
    # What a checkpoint that is listed refers to was compared before it was listed. What was uploaded for
    # one that never got there is compared now: it may have been cut or changed on its way.
    sure = journal.compared | _listed(job, patience, stop)
    todo: dict[str, _Place] = {}
    for file in entry.files:
        for begin, piece in file.spans():
            if piece.name in sure and there.get(piece.name) == piece.nbytes:
                advance(piece.nbytes)
            else:
                todo[piece.name] = _Place(path / file.name, begin, piece)
    sent: list[int] = []

    def put(place: _Place) -> None:
        stop.check()
        piece, data = place.piece, _read(place)
        if there.get(piece.name) != piece.nbytes or not insist(
            lambda: job.backend.same(job.path(piece.name), data), patience, stop
        ):
            insist(lambda: _put(job, piece, data), patience, stop)
            sent.append(len(data))
        journal.compared.add(piece.name)
        advance(len(data))

    in_lanes(todo.values(), put)
    return sum(sent)


def _listed(job: RemoteJob, patience: Patience, stop: Stop) -> set[str]:
    """Pieces of the latest checkpoint of the remote."""

    def look() -> set[str]:
        name = job.latest()
        return set(job.load_entry(name).pieces()) if name else set()

    try:
        return insist(look, patience, stop)
    except (DamagedError, RefusedError):
        return set()  # then each piece is compared once more


def _read(place: _Place) -> bytes:
    fd = disk.open_file(place.file)
    try:
        return read_piece(fd, place.begin, place.piece, str(place.file))
    finally:
        os.close(fd)


def _put(job: RemoteJob, piece: Piece, data: bytes) -> None:
    name = job.path(piece.name)
    job.backend.write(name, data)
    if not job.backend.same(name, data):
        with suppress(RemoteError):  # where it stays, the next try writes over it
            job.backend.remove(name)
        raise RemoteError(f"{job.where(piece.name)} did not arrive as it was sent")


def _complete(job: RemoteJob, entry: Entry, patience: Patience, stop: Stop) -> None:
    """Raise RemoteError unless the remote lists all pieces."""
    there = insist(job.objects, patience, stop)
    for name, piece in entry.pieces().items():
        if there.get(name) != piece.nbytes:
            raise absent(job.backend.url, job.path(name))

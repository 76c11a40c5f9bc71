"""A checkpoint's files cut into pieces that are known by their content. See docs/format.md."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ckptd.errors import DamagedError
from ckptd.store import disk, hashing
from ckptd.store.manifest import FileEntry, Manifest, is_pack
from ckptd.store.pack import Pack
from ckptd.store.verify import read_table, verify_pack

LARGEST = 32 << 20
"""Bytes of a piece."""
OWN = 1 << 20
"""A storage of so many bytes is a piece of its own."""


@dataclass(frozen=True)
class Piece:
    """A part of a file."""

    hash: str
    """BLAKE2b-256 of its bytes, 64 hex digits."""
    nbytes: int

    @property
    def name(self) -> str:
        """Of its object, below the job."""
        return f"objects/{self.hash[:2]}/{self.hash}"


@dataclass(frozen=True)
class PiecedFile:
    """One file of a checkpoint."""

    name: str
    nbytes: int
    pieces: tuple[Piece, ...]

    def spans(self) -> Iterator[tuple[int, Piece]]:
        """Each piece, and where in the file it begins."""
        begin = 0
        for piece in self.pieces:
            yield begin, piece
            begin += piece.nbytes


def digest(data: bytes | memoryview) -> str:
    """By what a piece is known."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def cut_checkpoint(
    path: Path, manifest: Manifest, known: dict[str, PiecedFile]
) -> Iterator[tuple[FileEntry, PiecedFile]]:
    """Cut the files of the checkpoint ``path``; it must be held. Their bytes are verified as they are read.

    ``known``: tensor files that were cut before; they are taken as they are there. Raises DamagedError,
    RefusedError.
    """
    packs: dict[str, Pack] = {}
    try:
        for entry in manifest.packs:
            packs[entry.name] = Pack(path, entry)
        table = read_table(path, manifest, packs)
        for entry in manifest.files:
            done = known.get(entry.name)
            if done is not None and done.nbytes == entry.nbytes:
                yield entry, done
                continue
            bounds = [entry.nbytes]
            if entry.name in packs and manifest.format > 1:
                pack = packs[entry.name]
                own = [each for each in table.values() if each.file == entry.name]
                verify_pack(path, pack, own, entry.hash.partition(":")[0])
                bounds = _bounds(pack)
            yield entry, _cut(path / entry.name, entry, bounds)
    except OSError as error:
        raise DamagedError(f"{path} can't be read: {disk.reason(error)}") from error
    finally:
        for pack in packs.values():
            pack.close()


def _bounds(pack: Pack) -> list[int]:
    """Where pieces of a tensor file end: large storages by themselves, small neighbours together."""
    ends, last = [pack.start], pack.start
    for tensor in sorted(pack.entries.values(), key=lambda each: each.offset):
        begin, end = pack.start + tensor.offset, pack.start + tensor.offset + tensor.nbytes
        if tensor.nbytes >= OWN:
            ends += [begin, end]
            last = end
        elif end - last > LARGEST:
            ends.append(begin)
            last = begin
    return [*ends, pack.entry.nbytes]


def _cut(file: Path, entry: FileEntry, bounds: list[int]) -> PiecedFile:
    pieces: list[Piece] = []
    begin = 0
    algorithm = hashing.algorithm_of(entry.hash)
    hasher = hashing.hasher(algorithm)
    with open(disk.open_file(file), "rb") as opened:
        for end in sorted(set(bounds)):
            while begin < end:
                data = opened.read(min(LARGEST, end - begin))
                if not data:
                    raise DamagedError(f"{file} ends after {begin} bytes, its manifest says {entry.nbytes}")
                pieces.append(Piece(digest(data), len(data)))
                if begin < entry.covered:
                    hasher.update(data[: entry.covered - begin])
                begin += len(data)
    if hashing.written(algorithm, hasher) != entry.hash:
        raise DamagedError(f"{file} is damaged: its {algorithm} is not the one in the manifest")
    return PiecedFile(entry.name, entry.nbytes, tuple(pieces))


def read_piece(fd: int, begin: int, piece: Piece, where: str) -> bytes:
    """The bytes of a piece in a local file; raises DamagedError if they are others by now."""
    parts, done = [], 0
    try:
        while done < piece.nbytes and (part := os.pread(fd, piece.nbytes - done, begin + done)):
            parts.append(part)
            done += len(part)
    except OSError as error:
        raise DamagedError(f"{where} can't be read: {disk.reason(error)}") from error
    data = b"".join(parts)
    if digest(data) != piece.hash:
        raise DamagedError(f"{where} is damaged: its bytes from {begin} are not what they were")
    return data


def files_of(rows: object, manifest: Manifest, where: str) -> tuple[PiecedFile, ...]:
    """What a remote's entry says of the files of ``manifest``; raises DamagedError unless it is all of them."""
    try:
        files = tuple(_file(row) for row in _rows(rows))
    except (TypeError, ValueError, KeyError) as error:
        raise DamagedError(f"{where} is damaged: it doesn't say of what its files are made") from error
    if {f.name: f.nbytes for f in files} != {entry.name: entry.nbytes for entry in manifest.files}:
        raise DamagedError(f"{where} is damaged: its files are not those of its manifest")
    return files


def _rows(rows: object) -> list[object]:
    if not isinstance(rows, list):
        raise TypeError("no list")
    return rows


def _file(row: object) -> PiecedFile:
    if not isinstance(row, dict):
        raise TypeError("no map")
    pieces = tuple(_piece(pair) for pair in _rows(row["pieces"]))
    name, nbytes = row["name"], row["nbytes"]
    if not isinstance(name, str) or sum(piece.nbytes for piece in pieces) != nbytes:
        raise ValueError("its pieces don't make it up")
    return PiecedFile(name, nbytes, pieces)


def _piece(pair: object) -> Piece:
    if not isinstance(pair, list) or len(pair) != 2:
        raise TypeError("no pair")
    name, nbytes = pair
    if not isinstance(name, str) or len(name) != 64 or set(name) - set("0123456789abcdef"):
        raise ValueError("no hash")
    if not isinstance(nbytes, int) or isinstance(nbytes, bool) or not 0 < nbytes <= LARGEST:
        raise ValueError("no length")
    return Piece(name, nbytes)


def file_row(file: PiecedFile) -> dict[str, object]:
    """A file, as a remote's entry and the journal have it."""
    pieces = [[piece.hash, piece.nbytes] for piece in file.pieces]
    return {"name": file.name, "nbytes": file.nbytes, "pieces": pieces}


def known_file(row: object) -> PiecedFile:
    """The reverse of file_row. Raises TypeError, ValueError, KeyError."""
    file = _file(row)
    if not is_pack(file.name):
        raise ValueError("no tensor file")
    return file

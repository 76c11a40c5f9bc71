"""Whether a checkpoint is what its manifest says."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ckptd.errors import DamagedError, RefusedError
from ckptd.store import compress, disk, hashing, storages
from ckptd.store.hold import hold
from ckptd.store.manifest import (
    GRAPH_ZSTD,
    MANIFEST,
    MAX_BYTES,
    TABLE,
    TENSORS_1,
    FileEntry,
    Manifest,
    decode,
)
from ckptd.store.pack import Pack, open_entry
from ckptd.store.storages import Stored, decode_table

CHUNK = 4 << 20
FOLDER = re.compile(r"(?P<step>\d{12})-(?P<id>[0-9a-f]{8})")
Progress = Callable[[int], None]
"""Called with the number of bytes read since the last call."""


def read_manifest(path: Path) -> Manifest:
    """The manifest of the checkpoint ``path``; raises DamagedError or RefusedError (newer format)."""
    file = path / MANIFEST
    try:
        data = disk.read_file(file, MAX_BYTES)
    except OSError as error:
        raise DamagedError(f"{file} can't be read: {disk.reason(error)}") from error
    manifest = decode(data, str(file))
    if manifest.folder != path.name:
        raise DamagedError(f"{file} is of checkpoint {manifest.folder}, but its folder is {path.name}")
    return manifest


def read_table(path: Path, manifest: Manifest, packs: dict[str, Pack]) -> dict[str, Stored]:
    """The storages of a checkpoint by name, each of them found in one of its ``packs``; raises DamagedError."""
    if manifest.format == 1:
        found = packs[TENSORS_1].entries.values()
        return {each.name: Stored(each.name, each.dtype, each.nbytes, "", TENSORS_1) for each in found}
    table = _checked_table(path, manifest)[1]
    for stored in table.values():
        if stored.file not in packs:
            raise DamagedError(f"{path / TABLE} names {stored.file}, which is not in the manifest")
        packs[stored.file].find(stored)
    return table


def _checked_table(path: Path, manifest: Manifest) -> tuple[str, dict[str, Stored]]:
    """(algorithm, storages by name), the file's hash compared where this installation can."""
    file, entry = path / TABLE, manifest.file(TABLE)
    try:
        data = disk.read_file(file, min(entry.nbytes, storages.MAX_BYTES))
    except OSError as error:
        raise DamagedError(f"{file} can't be read: {disk.reason(error)}") from error
    if len(data) != entry.nbytes:
        raise DamagedError(f"{file} is damaged: it has {len(data)} bytes, its manifest says {entry.nbytes}")
    return decode_table(data, str(file))


def verify_checkpoint(path: Path, *, data: bool = True, progress: Progress | None = None) -> Manifest:
    """Check a checkpoint; with ``data=False`` without reading its bytes (manifest, sizes, heads, the table).

    Raises DamagedError, which names the file and what is wrong with it, or RefusedError if this
    installation can't tell (newer format, unknown hash).
    """
    with ExitStack() as stack:
        stack.enter_context(hold(path))
        manifest = read_manifest(path)
        packs: dict[str, Pack] = {}
        for entry in manifest.files:
            small = entry.name == TABLE or entry.covered < entry.nbytes
            fd = open_entry(path, entry)
            try:
                if data or small:
                    _verify_hash(fd, path / entry.name, entry, data=data)
                    if progress is not None:
                        progress(entry.covered)
            except OSError as error:
                raise DamagedError(f"{path / entry.name} can't be read: {disk.reason(error)}") from error
            finally:
                os.close(fd)
        for entry in manifest.packs:
            packs[entry.name] = pack = Pack(path, entry)
            stack.callback(pack.close)
        table = read_table(path, manifest, packs)
        if data and manifest.format > 1:
            _verify_storages(path, manifest, packs, table, progress)
        if data:
            _verify_graph(path, manifest)
    return manifest


def _verify_hash(fd: int, file: Path, entry: FileEntry, *, data: bool) -> None:
    hasher = _hasher(entry.hash, file, needed=data)
    if hasher is None:
        return
    offset = _feed(fd, 0, entry.covered, hasher.update)
    if offset != entry.covered:
        raise DamagedError(f"{file} is damaged: it ends after {offset} bytes, not {entry.nbytes}")
    algorithm = hashing.algorithm_of(entry.hash)
    if hashing.written(algorithm, hasher) != entry.hash:
        raise DamagedError(f"{file} is damaged: its {algorithm} is not the one in the manifest")


def _hasher(written: str, file: Path, *, needed: bool) -> hashing.Hasher | None:
    """A hasher for a hash in a manifest; None where it isn't to be had here and not ``needed``."""
    try:
        return hashing.hasher(hashing.algorithm_of(written))
    except RefusedError as error:
        if not needed:
            return None
        raise RefusedError(f"{file} can't be verified: {error}") from error


def _feed(fd: int, begin: int, end: int, take: Callable[[memoryview], None]) -> int:
    """Hand the bytes from ``begin`` up to ``end`` on, in chunks; returns where the file ended. Raises OSError."""
    buffer = bytearray(min(CHUNK, max(end - begin, 1)))
    offset = begin
    with memoryview(buffer) as view:
        while offset < end:
            with view[: min(len(buffer), end - offset)] as room:
                count = os.preadv(fd, [room], offset)
                if count == 0:
                    break
                offset += count
                with room[:count] as chunk:
                    take(chunk)
    return offset


def _verify_graph(path: Path, manifest: Manifest) -> None:
    """That what is compressed has the length that the manifest says; its bytes were compared before."""
    entry = manifest.graph
    if entry.name == GRAPH_ZSTD:
        try:
            frame = disk.read_file(path / entry.name, entry.nbytes)
        except OSError as error:
            raise DamagedError(f"{path / entry.name} can't be read: {disk.reason(error)}") from error
        for _ in compress.pieces(frame, manifest.graph_nbytes, str(path / entry.name)):
            pass  # each is let go at once


def _verify_storages(
    path: Path,
    manifest: Manifest,
    packs: dict[str, Pack],
    table: dict[str, Stored],
    progress: Progress | None,
) -> None:
    algorithm = _checked_table(path, manifest)[0]
    done: set[tuple[str, str]] = set()
    by_file: dict[str, list[Stored]] = {name: [] for name in packs}
    for stored in table.values():
        if (stored.file, stored.key) not in done:
            done.add((stored.file, stored.key))
            by_file[stored.file].append(stored)
    for name, pack in packs.items():
        verify_pack(path, pack, by_file[name], algorithm, progress)


def verify_pack(
    path: Path, pack: Pack, wanted: list[Stored], algorithm: str, progress: Progress | None = None
) -> None:
    """Read storages of a tensor file and compare their hashes. Raises DamagedError, RefusedError."""
    fd = open_entry(path, pack.entry)
    try:
        for stored in sorted(wanted, key=lambda each: pack.find(each)[0].offset):
            _verify_storage(fd, pack, stored, algorithm)
            if progress is not None:
                progress(pack.find(stored)[0].nbytes)
    except OSError as error:
        raise DamagedError(f"{pack.file} can't be read: {disk.reason(error)}") from error
    finally:
        os.close(fd)


def _verify_storage(fd: int, pack: Pack, stored: Stored, algorithm: str) -> None:
    hasher = _hasher(f"{algorithm}:{'0' * 32}", pack.file, needed=True)
    assert hasher is not None
    tensor, squeezed = pack.find(stored)
    begin = pack.start + tensor.offset
    if squeezed:
        frame = bytearray()
        _feed(fd, begin, begin + tensor.nbytes, frame.extend)
        for piece in compress.pieces(bytes(frame), stored.nbytes, f"{stored.name!r} in {pack.file}"):
            hasher.update(piece)
    else:
        _feed(fd, begin, begin + tensor.nbytes, hasher.update)
    if hasher.hexdigest() != stored.digest:
        raise DamagedError(f"{pack.file} is damaged: the {algorithm} of {stored.name[:80]!r} is another")


@dataclass(frozen=True)
class Verdict:
    """What verify_checkpoint found, as a value."""

    state: str
    """'complete', 'damaged', 'unknown' where this installation can't tell, or 'removed' while it was read."""
    why: str = ""
    """One sentence, if it isn't complete."""

    @property
    def ok(self) -> bool:
        """It is not damaged, as far as can be told."""
        return self.state != "damaged"


def judge(path: Path, *, data: bool, progress: Progress | None = None) -> Verdict:
    """Check a checkpoint; see verify_checkpoint."""
    try:
        verify_checkpoint(path, data=data, progress=progress)
    except DamagedError as error:
        if not path.is_dir():
            return Verdict("removed", "somebody, or the policy, has removed it meanwhile")
        return Verdict("damaged", str(error))
    except RefusedError as error:
        return Verdict("unknown", str(error))
    return Verdict("complete")

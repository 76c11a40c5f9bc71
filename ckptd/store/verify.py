"""Whether a checkpoint is what its manifest says."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path

from ckptd.errors import DamagedError, RefusedError
from ckptd.store import disk, hashing
from ckptd.store.manifest import MANIFEST, MAX_BYTES, TENSORS, FileEntry, Manifest, decode
from ckptd.store.tensorfile import read_head

CHUNK = 4 << 20
FOLDER = re.compile(r"(?P<step>\d{12})-(?P<id>[0-9a-f]{8})")


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


def open_entry(path: Path, entry: FileEntry) -> int:
    """Open one file of the checkpoint ``path``, of the size that the manifest says; raises DamagedError."""
    file = path / entry.name
    try:
        fd = disk.open_file(file)
    except OSError as error:
        raise DamagedError(f"{file} can't be read: {disk.reason(error)}") from error
    size = os.fstat(fd).st_size
    if size != entry.nbytes:
        os.close(fd)
        raise DamagedError(f"{file} is damaged: it has {size} bytes, its manifest says {entry.nbytes}")
    return fd


def verify_checkpoint(path: Path, *, data: bool = True) -> Manifest:
    """Check a checkpoint; with ``data=False`` without reading its bytes (manifest, sizes, tensor head).

    Raises DamagedError, which names the file and what is wrong with it, or RefusedError if this
    installation can't tell (newer format, unknown hash).
    """
    manifest = read_manifest(path)
    for entry in manifest.files:
        fd = open_entry(path, entry)
        try:
            if data:
                _verify_hash(fd, path / entry.name, entry)
            if entry.name == TENSORS:
                _verify_head(fd, path / entry.name, entry)
        except OSError as error:
            raise DamagedError(f"{path / entry.name} can't be read: {disk.reason(error)}") from error
        finally:
            os.close(fd)
    return manifest


def _verify_hash(fd: int, file: Path, entry: FileEntry) -> None:
    algorithm = hashing.algorithm_of(entry.hash)
    try:
        hasher = hashing.hasher(algorithm)
    except RefusedError as error:
        raise RefusedError(f"{file} can't be verified: {error}") from error
    buffer = bytearray(min(CHUNK, max(entry.nbytes, 1)))
    offset = 0
    with memoryview(buffer) as view:
        while count := os.preadv(fd, [view], offset):
            offset += count
            with view[:count] as chunk:
                hasher.update(chunk)
    if offset != entry.nbytes:
        raise DamagedError(f"{file} is damaged: it ends after {offset} bytes, not {entry.nbytes}")
    if hashing.written(algorithm, hasher) != entry.hash:
        raise DamagedError(f"{file} is damaged: its {algorithm} is not the one in the manifest")


def _verify_head(fd: int, file: Path, entry: FileEntry) -> None:
    if entry.nbytes == 0:
        raise DamagedError(f"{file} is damaged: it is empty")
    with mmap.mmap(fd, entry.nbytes, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
        read_head(view, str(file))

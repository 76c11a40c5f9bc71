"""Segments and checkpoints, small and with known contents."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from ckptd.memory.room import Room
from ckptd.memory.segment import Segment, SegmentWriter, arrange
from ckptd.store.draft import Way
from ckptd.store.layout import JobFolder, new_id, open_store
from ckptd.store.manifest import FORMAT, NO_HASH, Manifest
from ckptd.store.writer import write_checkpoint

ROOT = Path(__file__).parents[2]
"""Of the repository."""
JOB = "0123abcd"
SIZES = [("small", "F32", 24), ("odd", "U8", 7), ("steps", "I64", 16), ("empty", "BF16", 0)]
FACTS: dict[str, Any] = {
    "loss": 0.25,
    "lr": [0.001],
    "argv": ["train.py"],
    "sources": {"train.py": "00" * 32},
}
GRAPH = b"\x81\xa4root\xc0"


def content(size: int) -> bytes:
    """Bytes that are the same each time, and have no period that a block of the disk has."""
    return bytes((index * index + index // 251) % 256 for index in range(size))


def make_segment(
    path: Path, sizes: list[tuple[str, str, int]] | None = None, graph: bytes = GRAPH, facts: Any = None
) -> Path:
    """A complete segment at ``path``."""
    tensors = arrange(SIZES if sizes is None else sizes)
    writer = SegmentWriter(Room(path), tensors, graph, FACTS if facts is None else facts)
    size = writer.data_nbytes
    writer.put(0, content(size) if size < 1 << 16 else os.urandom(size))
    writer.finish()
    return path


def make_manifest(step: int, **changes: Any) -> Manifest:
    """A manifest that lacks its files."""
    fields: dict[str, Any] = {
        "format": FORMAT, "id": new_id(), "job": JOB, "name": "train", "step": step, "created": time.time(),
        "reason": "periodic", "attempt": 1, "host": "here", "files": [], **changes,
    }  # fmt: skip
    return Manifest(**fields)


def make_job(store: Path) -> JobFolder:
    """The folder of the one job of a store."""
    folder = open_store(store).job(JOB)
    folder.make()
    return folder


def make_checkpoint(
    folder: JobFolder, segment: Path, step: int, way: Way | None = None, **changes: Any
) -> Path:
    """Commit a segment as one checkpoint; the segment stays."""
    with Segment(segment) as opened:
        return write_checkpoint(folder, opened, make_manifest(step, **changes), way)[0]


def pack_of(path: Path) -> Path:
    """The one tensor file that a checkpoint has."""
    (found,) = path.glob("*.safetensors")
    return found


def graph_of(path: Path) -> Path:
    """The graph of a checkpoint."""
    (found,) = path.glob("graph.msgpack*")
    return found


def seal(fields: dict[str, Any]) -> bytes:
    """Any fields at all as a manifest whose own hash is right: what only a program can get wrong."""
    text = json.dumps({**fields, "manifest_hash": NO_HASH}, sort_keys=True, indent=1) + "\n"
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return text.replace(
        f'\n "manifest_hash": "{NO_HASH}"', f'\n "manifest_hash": "blake2b_128:{digest}"'
    ).encode()


def tree(path: Path) -> list[str]:
    """Names of everything below a folder."""
    return sorted(str(item.relative_to(path)) for item in path.rglob("*"))

"""What ``ckptd pin`` says of a checkpoint: pin.json in its folder."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ckptd.errors import NoStoreError, UsageError
from ckptd.store import disk
from ckptd.store.hold import keep
from ckptd.store.index import Entry
from ckptd.store.manifest import dump_json, load_json
from ckptd.store.retention import Mark

PIN = "pin.json"
MAX_BYTES = 1 << 16
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def read_mark(path: Path) -> Mark:
    """The mark of the checkpoint ``path``. One that can't be read counts as a pin: rather keep too much."""
    try:
        fields = load_json(disk.read_file(path / PIN, MAX_BYTES))
    except FileNotFoundError:
        return Mark()
    except (OSError, ValueError):
        return Mark(pinned=True)
    written = fields.pop("hash", None)
    if written is not None and written != _hash(fields):
        return Mark(pinned=True)
    tags = fields.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return Mark(pinned=True)
    return Mark(fields.get("pinned") is not False, tuple(tags))


def write_mark(path: Path, mark: Mark) -> None:
    """Set the mark of a checkpoint; an empty one is no mark.

    On return it is there, and whoever removes by a policy has seen it. Raises NoStoreError, UsageError, and
    DamagedError if the checkpoint is removed meanwhile.
    """
    for tag in mark.tags:
        if not TAG.fullmatch(tag):
            raise UsageError(f"{tag!r} is no tag: letters, digits, dots, dashes, 64 at most")
    try:
        with keep(path):
            _write(path, mark)
    except OSError as error:
        raise NoStoreError(f"can't mark {path}: {disk.reason(error)}") from error


def _write(path: Path, mark: Mark) -> None:
    if mark == Mark():
        (path / PIN).unlink(missing_ok=True)
        disk.sync_folder(path)
        return
    fields: dict[str, Any] = {"since": time.time(), "pinned": mark.pinned, "tags": sorted(set(mark.tags))}
    fields["hash"] = _hash(fields)
    # Its part lies where sweep() looks: nobody looks into each of ten thousand checkpoints.
    disk.replace_file(path / PIN, dump_json(fields), path.parent)


def _hash(fields: dict[str, Any]) -> str:
    return "blake2b_128:" + hashlib.blake2b(dump_json(fields), digest_size=16).hexdigest()


def read_marks(entries: Iterable[Entry]) -> dict[str, Mark]:
    """All marks, by id of the checkpoint; what has none is left out."""
    found = {}
    for entry in entries:
        mark = read_mark(entry.path)
        if mark != Mark():
            found[entry.id] = mark
    return found

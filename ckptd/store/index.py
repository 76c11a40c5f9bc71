"""All checkpoints of a job at a glance: manifests, and a cache of what a listing needs of them.

The cache is only a cache: a line of it counts if it has its checksum, and while the manifest has the size and time
that it names.
"""

from __future__ import annotations

import json
import os
import zlib
from bisect import bisect_right
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptd.errors import CkptdError, DamagedError, RefusedError
from ckptd.store import disk
from ckptd.store.manifest import MANIFEST, Manifest, plain
from ckptd.store.verify import FOLDER, read_manifest

if TYPE_CHECKING:
    from ckptd.store.layout import JobFolder

INDEX = "index.jsonl"
MAX_BYTES = 512 << 20
FIGURES = 16
"""How many numbers of a manifest's facts are kept, at most."""


@dataclass(frozen=True)
class Entry:
    """A checkpoint as listings and retention see it."""

    path: Path
    created: float = 0.0
    """Unix seconds; of one that is damaged, when its folder was last changed."""
    reason: str = ""
    branch: int = 0
    branch_step: int = 0
    nbytes: int = 0
    new_nbytes: int = 0
    figures: dict[str, float | str] = field(default_factory=dict)
    """Numbers among the facts, 'NaN' and the like as such words."""
    error: str = ""
    """Why its manifest can't be read, one sentence."""
    newer: bool = False
    """It is of a newer format: not damaged, only not for us."""

    @cached_property
    def name(self) -> str:
        """Of its folder."""
        return self.path.name

    @cached_property
    def step(self) -> int:
        """The step, by the folder's name."""
        return int(self.name[:12])

    @cached_property
    def id(self) -> str:
        """The checkpoint's id, by the folder's name."""
        return self.name[13:]

    @property
    def good(self) -> bool:
        """Its manifest is right; whether the data is too, only reading it can tell."""
        return not self.error


def entry_of(path: Path, manifest: Manifest) -> Entry:
    """What a listing needs of a manifest."""
    numbers = {
        name: value
        for name, value in plain(manifest.facts).items()
        if (isinstance(value, int | float) and not isinstance(value, bool))
        or value in ("NaN", "Infinity", "-Infinity")
    }
    return Entry(
        path, manifest.created, manifest.reason, manifest.branch, manifest.branch_step, manifest.nbytes,
        manifest.new_nbytes, dict(sorted(numbers.items())[:FIGURES]),
    )  # fmt: skip


def entries(folder: JobFolder) -> list[Entry]:
    """All checkpoints of a job, oldest first: by branch, step, then time. Raises DamagedError."""
    cached = _read_cache(folder)
    found = [_entry(folder, name, cached.get(name)) for name in folder_names(folder)]
    # What can't be read and isn't there any more was removed while we looked.
    return in_order([entry for entry in found if entry.good or entry.path.is_dir()])


def in_order(found: list[Entry]) -> list[Entry]:
    """Oldest first. Of one whose manifest can't be read the branch is that of those as old as it."""
    if all(entry.good for entry in found):
        return sorted(found, key=_order)
    good = sorted((entry.created, entry.branch) for entry in found if entry.good)
    times = [created for created, _ in good]
    tops = [0]
    for _, branch in good:
        tops.append(max(tops[-1], branch))
    placed = [
        entry if entry.good else replace(entry, branch=tops[bisect_right(times, entry.created)])
        for entry in found
    ]
    return sorted(placed, key=_order)


def _order(entry: Entry) -> tuple[int, int, float, str]:
    return entry.branch, entry.step, entry.created, entry.id


def folder_names(folder: JobFolder) -> list[str]:
    """Names of the folders of all checkpoints of a job, by step. Raises DamagedError."""
    try:
        with os.scandir(folder.checkpoints) as found:
            return sorted(entry.name for entry in found if FOLDER.fullmatch(entry.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DamagedError(f"{folder.checkpoints} can't be read: {disk.reason(error)}") from error


def add(folder: JobFolder, path: Path, manifest: Manifest) -> None:
    """Note a checkpoint that was committed. Raises OSError; listings are right without it, only slower."""
    data = _line(path, entry_of(path, manifest))
    file = folder.path / INDEX
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, disk.FILE_MODE)
    try:
        os.fchmod(fd, disk.FILE_MODE)
        disk.write_all(fd, data)
    finally:
        os.close(fd)


def rewrite(folder: JobFolder, kept: list[Entry]) -> None:
    """Write the cache anew with these entries only. Raises OSError."""
    lines = [_line(entry.path, entry) for entry in kept if entry.good]
    disk.replace_file(folder.path / INDEX, b"".join(lines))


def list_entry(path: Path) -> Entry:
    """One checkpoint, by its manifest."""
    try:
        return entry_of(path, read_manifest(path))
    except CkptdError as error:
        try:
            changed = path.stat().st_mtime
        except OSError:
            changed = 0.0
        return Entry(path, changed, error=str(error), newer=isinstance(error, RefusedError))


def _line(path: Path, entry: Entry) -> bytes:
    status = os.stat(path / MANIFEST)
    fields = {key: value for key, value in asdict(entry).items() if key not in ("path", "error", "newer")}
    fields.update(name=path.name, size=status.st_size, mtime=status.st_mtime_ns)
    data = json.dumps(fields, sort_keys=True, allow_nan=False).encode("ascii")
    return b"%08x %b\n" % (zlib.crc32(data), data)


def _read_cache(folder: JobFolder) -> dict[str, dict[str, Any]]:
    """Lines by name of folder; those that can't be read are left out."""
    try:
        data = disk.read_file(folder.path / INDEX, MAX_BYTES)
    except OSError:
        return {}  # it is only a cache
    lines = [line[CHECKSUM:] for line in data.split(b"\n") if _is_whole(line)]
    try:  # all at once: several times faster than one after another
        rows = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        return {}
    return {row["name"]: row for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str)}


CHECKSUM = 9
"""Bytes before a line's JSON: its CRC-32 in hex, and a space."""


def _is_whole(line: bytes) -> bool:
    """It was not cut short by a crash, and no byte of it is another."""
    return line[:CHECKSUM] == b"%08x " % zlib.crc32(line[CHECKSUM:])


_KINDS: dict[str, Any] = {
    "created": (int, float), "reason": str, "branch": int, "branch_step": int, "nbytes": int,
    "new_nbytes": int, "figures": dict,
}  # fmt: skip


def _entry(folder: JobFolder, name: str, row: dict[str, Any] | None) -> Entry:
    path = folder.checkpoints / name
    if row is None:
        return list_entry(path)
    try:
        status = os.stat(path / MANIFEST)
    except OSError:
        return list_entry(path)
    same = row.get("size") == status.st_size and row.get("mtime") == status.st_mtime_ns
    if not same or not all(isinstance(row.get(key), kind) for key, kind in _KINDS.items()):
        return list_entry(path)
    return Entry(path, **{key: row[key] for key in _KINDS})

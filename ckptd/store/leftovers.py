"""What lies in a job's folder and belongs to no checkpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ckptd.store import index
from ckptd.store.layout import WORK, JobFolder
from ckptd.store.sweep import is_alive, remove_left

EARLIER = "earlier-"
"""Folders of a job beside ``checkpoints``: checkpoints of a run before the present one."""


@dataclass(frozen=True)
class Left:
    """Something that can go."""

    path: Path
    what: str
    nbytes: int
    """What is freed: files that no checkpoint has too."""


def leftovers(folder: JobFolder) -> list[Left]:
    """What nobody needs any more. Raises DamagedError, OSError."""
    found = [path for path in _inside(folder.work) if not is_alive(path)]
    found += [
        path
        for place in (folder.path, folder.checkpoints)
        for path in _inside(place)
        if path.name.startswith(WORK) and not is_alive(path)
    ]
    left = [Left(path, "left by a writer that was killed", _nbytes(path)) for path in found]
    if any(entry.good for entry in index.entries(folder)):
        # Up to the new run's first commit they are what --fresh could be taken back with.
        earlier = [path for path in _inside(folder.path) if path.name.startswith(EARLIER)]
        left += [Left(path, "of a run before this one", freed_by(path)) for path in earlier]
    return left


def prune_job(folder: JobFolder) -> list[Left]:
    """Remove leftovers; returns what is gone. Raises DamagedError, OSError."""
    return [left for left in leftovers(folder) if remove_left(left.path)]


def _nbytes(path: Path) -> int:
    if path.is_dir():
        return freed_by(path)
    try:
        return path.lstat().st_size
    except OSError:
        return 0  # gone meanwhile


def freed_by(path: Path) -> int:
    """Bytes that go with a folder: of files that have no other name."""
    total = 0
    for place, _, names in os.walk(path):
        for name in names:
            try:
                status = os.lstat(os.path.join(place, name))
            except OSError:
                continue  # gone meanwhile
            total += status.st_size if status.st_nlink == 1 else 0
    return total


def _inside(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except FileNotFoundError:
        return []

"""Scratch copies of the working folder: each run gets a fresh one, all of them at the same path.

A program prints its folder, or keeps it in its variables; so the copy that is in use is always called the same, and
one that a run is done with is moved aside.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ckptd.errors import CkptdError
from ckptd.store.layout import MARKER
from ckptd.store.quantity import bytes_text

SKIPPED = frozenset(
    {
        ".git", ".hg", ".svn", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox",
        ".ipynb_checkpoints", "node_modules",
    }
)  # fmt: skip
"""Folders that no training reads."""
MARKS = ("pyvenv.cfg", "conda-meta", MARKER)
"""What a folder holds that is a virtual environment or a store of checkpoints."""
LARGE = 16 << 20
"""Bytes; from here on a file that the first run didn't write is linked rather than copied once more."""
_FICLONE = 0x40049409
"""The ioctl that makes a file share another one's blocks until either is written."""
Stamp = tuple[int, int, int]
"""Modification time (ns), size and inode."""


@dataclass
class Copied:
    """What was done to get the copies, for people."""

    files: int = 0
    """In one copy."""
    nbytes: int = 0
    reflinked: int = 0
    linked: int = 0
    """Large files that later copies share with the first."""
    given: list[str] = field(default_factory=list)
    """Names that stand as links to the originals, as --link asked for."""
    skipped: list[str] = field(default_factory=list)
    """Folders left out."""
    outside: list[str] = field(default_factory=list)
    """Links that lead out of the folder: what is written through them is not in the copy."""


class Scratch:
    """The working folder's copies below ``root``."""

    def __init__(self, source: Path, root: Path, link: tuple[Path, ...] = ()) -> None:
        self.source = source
        self.root = root
        self.work = root / "work"
        """Where every run takes place."""
        self.link = {path.resolve() for path in link}
        self.copied = Copied()
        self._first: Path | None = None
        self._stamps: dict[str, Stamp] = {}
        """Of the files in ``work`` before the run, by relative path."""
        self._original: dict[str, Stamp] = {}
        self._written: set[str] = set()
        self._linked: set[str] = set()

    def holds(self, word: str) -> bool:
        """Whether a copy has the file that a word of the command names."""
        path = self.source / word
        if not path.is_relative_to(self.source) or ".." in path.parts or not path.exists():
            return False
        folders = [each for each in path.parents if each != self.source and each.is_relative_to(self.source)]
        return all(self._why_not(folder) is None for folder in folders)

    def prepare(self) -> None:
        """Make ``work`` a fresh copy. Raises CkptdError."""
        if self._first is None:
            self._check_room()
        self._stamps, self._linked = {}, set()
        seen: dict[str, Stamp] = {}
        try:
            self._copy_folder(self.source, self.work, "", seen)
        except OSError as error:
            raise CkptdError(
                f"can't copy {self.source} to {self.work}: {(error.strerror or '').lower()}"
            ) from error
        changed = sorted(name for name, stamp in seen.items() if self._original.get(name, stamp) != stamp)
        if self._first is not None and (changed or len(seen) != len(self._original)):
            what = changed[0] if changed else "a file"
            raise CkptdError(f"{what} was changed while ckptd prove was at work: start it again")
        self._original = seen

    def keep(self, name: str) -> tuple[Path, list[str]]:
        """Move ``work`` aside when its run is over; its new place, and the files that the run wrote or removed."""
        written = [path for path, stamp in _stamps(self.work).items() if self._stamps.get(path) != stamp]
        written += [path for path in self._stamps if not os.path.lexists(self.work / path)]
        shared = sorted(self._linked.intersection(written))
        if shared and self._stamps[shared[0]][2] == _stamp(self.work / shared[0])[2]:
            raise CkptdError(
                f"{shared[0]} was left alone by the first run and written by this one: nothing can be compared; "
                "the program decides by the clock or by chance"
            )
        self._written.update(written)
        place = self.root / name
        self.work.rename(place)
        if self._first is None:
            self._first = place
        return place, sorted(written)

    def forget(self, place: Path) -> None:
        """Remove a copy that nothing is compared with any more; the first one lends its files to the others."""
        if place != self._first:
            shutil.rmtree(place, ignore_errors=True)

    def _check_room(self) -> None:
        total = 0
        for folder, names, files in os.walk(self.source):
            names[:] = [name for name in names if self._why_not(Path(folder) / name) is None]
            total += sum(
                os.lstat(os.path.join(folder, file)).st_size for file in files if not _gone(folder, file)
            )
        free = shutil.disk_usage(self.root).free
        if total > 0.9 * free:
            raise CkptdError(
                f"{self.source} holds {bytes_text(total)}, {self.root.parent} has room for {bytes_text(free)}: "
                "name what is only read with --link PATH, or another place with --scratch DIR"
            )

    def _why_not(self, path: Path) -> str | None:
        """Why a folder is not copied: 'skipped' or 'link'; None if it is."""
        if path.resolve() in self.link:
            return "link"
        inside = path.resolve() == self.root.resolve()
        if path.name in SKIPPED or inside or any((path / mark).exists() for mark in MARKS):
            return "skipped"
        return None

    def _copy_folder(self, source: Path, target: Path, prefix: str, seen: dict[str, Stamp]) -> None:
        target.mkdir()
        for entry in sorted(os.scandir(source), key=lambda each: each.name):
            path, place, name = Path(entry.path), target / entry.name, prefix + entry.name
            if path.resolve() in self.link:
                place.symlink_to(path.resolve())
                _note(self.copied.given, name)
            elif entry.is_symlink():
                self._copy_link(path, place, name)
            elif entry.is_dir():
                if self._why_not(path) is None:
                    self._copy_folder(path, place, name + "/", seen)
                else:
                    _note(self.copied.skipped, name)
            elif entry.is_file():
                seen[name] = _stamp(path)
                self._copy_file(path, place, name)
                self._stamps[name] = _stamp(place)
        shutil.copystat(source, target)

    def _copy_link(self, path: Path, place: Path, name: str) -> None:
        goal = path.resolve()
        if goal.is_relative_to(self.source):
            place.symlink_to(os.readlink(path))
        else:
            place.symlink_to(goal)
            _note(self.copied.outside, name)

    def _copy_file(self, path: Path, place: Path, name: str) -> None:
        size = path.stat().st_size
        if self._first is None:
            self.copied.files += 1
            self.copied.nbytes += size
        elif size >= LARGE and name not in self._written:
            os.link(self._first / name, place)
            self.copied.linked += 1
            self._linked.add(name)
            return
        if size >= LARGE and _reflink(path, place):
            self.copied.reflinked += 1
        else:
            shutil.copyfile(path, place)
        shutil.copystat(path, place)


def _note(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)


def _gone(folder: str, file: str) -> bool:
    return not os.path.lexists(os.path.join(folder, file))


def _reflink(path: Path, place: Path) -> bool:
    """Share the blocks where the file system can; False, and no file, where it can't."""
    with open(path, "rb") as source, open(place, "wb") as target:
        try:
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
        except OSError:
            return False
    return True


def _stamp(path: Path) -> Stamp:
    status = path.lstat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _stamps(folder: Path) -> dict[str, Stamp]:
    """Of all regular files below a folder, caches of Python's left out."""
    found: dict[str, Stamp] = {}
    for place, names, files in os.walk(folder):
        names[:] = [name for name in names if name != "__pycache__"]
        for file in files:
            path = Path(place) / file
            if stat.S_ISREG(path.lstat().st_mode):
                found[str(path.relative_to(folder))] = _stamp(path)
    return found

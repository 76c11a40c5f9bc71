"""A disk that forgets: from a recording of calls, what can be on it after the power has failed.

What is certain is only what was synced. A file has the bytes that it had at its last fsync; of those written since,
any may be there, or zeros, or half a write, in any order. A name is there (or gone) for certain once the folder was
synced; of the changes of names since, any may have come to the disk, whatever became of earlier ones. A rename is
one change, as all file systems with a journal have it: the old name or the new.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torture.recording import Call

Pick = Callable[[], bool]
"""Whether a change that was not synced has come to the disk."""


@dataclass
class File:
    """A regular file."""

    synced: bytes = b""
    pending: list[tuple[int, bytes | int]] = field(default_factory=list)
    """Since the last fsync: (offset, bytes written there) or (length, 0 to cut to it, 1 to lengthen to it)."""

    def whole(self) -> bytes:
        """As the process sees it."""
        return self.after(lambda: True)

    def after(self, kept: Pick) -> bytes:
        """After a power failure."""
        data = bytearray(self.synced)
        for place, what in self.pending:
            if not kept():
                continue
            if isinstance(what, bytes):
                data.extend(bytes(max(0, place - len(data))))
                data[place : place + len(what)] = what
            elif what == 0:
                data[:] = data[:place].ljust(place, b"\0")
            else:
                data.extend(bytes(max(0, place - len(data))))
        return bytes(data)


@dataclass
class Folder:
    """A folder, and what is in it for certain."""

    synced: dict[str, Folder | File] = field(default_factory=dict)
    live: dict[str, Folder | File] = field(default_factory=dict)


@dataclass(eq=False)
class Change:
    """Names that came to be, or went, at once."""

    entries: list[tuple[Folder, str, Folder | File | None]]

    def touches(self, folder: Folder) -> bool:
        """Whether a sync of the folder makes it durable."""
        return any(each is folder for each, _, _ in self.entries)

    def same_name(self, other: Change) -> bool:
        """Whether they are about the same name."""
        return any(a is b and n == m for a, n, _ in self.entries for b, m, _ in other.entries)


class Disk:
    """All that is known of it after some of the calls."""

    def __init__(self) -> None:
        self.root = Folder()
        self._files: dict[str, File] = {}
        """By inode number, which the disk uses again for another file later."""
        self._names: list[Change] = []
        """Those that are not durable yet."""

    def take(self, call: Call) -> None:
        """Make one more call."""
        getattr(self, f"_{call.name}")(*call.arguments, *([call.data] if call.data else []))

    # ---- calls ------------------------------------------------------------------------------

    def _said(self, *_: object) -> None:
        """Nothing changes on the disk."""

    def _create(self, path: str, inode: str) -> None:
        self._files[inode] = File()
        self._set((path, self._files[inode]))

    def _mkdir(self, path: str) -> None:
        self._set((path, Folder()))

    def _unlink(self, path: str) -> None:
        self._set((path, None))

    def _rmdir(self, path: str) -> None:
        self._set((path, None))

    def _rename(self, old: str, new: str) -> None:
        folder, name = self._find(old)
        self._set((old, None), (new, folder.live[name]))

    def _link(self, old: str, new: str) -> None:
        folder, name = self._find(old)
        self._set((new, folder.live[name]))

    def _write(self, inode: str, offset: str, length: str, data: bytes = b"") -> None:
        # In two parts: a disk has no call, but blocks.
        middle = int(length) // 2
        for start, part in ((0, data[:middle]), (middle, data[middle:])):
            self._files[inode].pending.append((int(offset) + start, part))

    def _truncate(self, inode: str, length: str) -> None:
        self._files[inode].pending.append((int(length), 0))

    def _allocate(self, inode: str, length: str) -> None:
        self._files[inode].pending.append((int(length), 1))

    def _fsync(self, inode: str) -> None:
        file = self._files[inode]
        file.synced = file.whole()
        file.pending.clear()

    def _syncdir(self, path: str) -> None:
        folder = self.root
        for name in path.split("/") if path else []:
            found = folder.live[name]
            assert isinstance(found, Folder)
            folder = found
        self._persist(folder)

    # ---- names ------------------------------------------------------------------------------

    def _find(self, path: str) -> tuple[Folder, str]:
        *above, name = path.split("/")
        folder = self.root
        for each in above:
            found = folder.live[each]
            assert isinstance(found, Folder)
            folder = found
        return folder, name

    def _set(self, *changes: tuple[str, Folder | File | None]) -> None:
        change = Change([(*self._find(path), what) for path, what in changes])
        self._names.append(change)
        _apply(change, live=True)

    def _persist(self, folder: Folder) -> None:
        """Make changes of names in a folder durable, and with them what came before of the same names."""
        left: list[Change] = []
        wanted: list[Change] = []
        for change in reversed(self._names):
            if change.touches(folder) or any(change.same_name(later) for later in wanted):
                wanted.append(change)
            else:
                left.append(change)
        for change in reversed(wanted):
            _apply(change, live=False)
        self._names = left[::-1]

    # ---- after the power has failed -----------------------------------------------------------

    def after(self, names: Pick, data: Pick) -> Image:
        """One of the states that can be found; the picks are asked in the order of the changes."""
        kept = [change for change in self._names if names()]
        entries: dict[int, dict[str, Folder | File]] = {}
        for change in kept:
            for folder, name, what in change.entries:
                own = entries.setdefault(id(folder), dict(folder.synced))
                if what is None:
                    own.pop(name, None)
                else:
                    own[name] = what
        return Image(self.root, entries, data)


def _apply(change: Change, *, live: bool) -> None:
    for folder, name, what in change.entries:
        entries = folder.live if live else folder.synced
        if what is None:
            entries.pop(name, None)
        else:
            entries[name] = what


class Image:
    """A state of the disk, as files by their paths; folders have None."""

    def __init__(self, root: Folder, entries: dict[int, dict[str, Folder | File]], data: Pick) -> None:
        self.items: dict[str, bytes | None] = {}
        seen: dict[int, bytes] = {}  # a file of two names is one file
        waiting: list[tuple[str, Folder]] = [("", root)]
        while waiting:
            path, folder = waiting.pop()
            for name, what in sorted(entries.get(id(folder), folder.synced).items()):
                inner = f"{path}/{name}" if path else name
                if isinstance(what, Folder):
                    self.items[inner] = None
                    waiting.append((inner, what))
                else:
                    if id(what) not in seen:
                        seen[id(what)] = what.after(data)
                    self.items[inner] = seen[id(what)]

    def digest(self) -> bytes:
        """The same for the same state."""
        hasher = hashlib.blake2b(digest_size=16)
        for path, data in sorted(self.items.items()):
            hasher.update(f"{path}\0{-1 if data is None else len(data)}\0".encode())
            hasher.update(data or b"")
        return hasher.digest()

    def make(self, place: Path) -> None:
        """Write it into a folder that is not there yet, as a store's own process would: private."""
        place.mkdir(mode=0o700)
        for path, data in self.items.items():
            if data is None:
                (place / path).mkdir(mode=0o700)
            else:
                (place / path).write_bytes(data)


def picks(chance: random.Random | None, kept: bool = False) -> Pick:
    """Always the same answer, or, with ``chance``, mostly one, each time another."""
    if chance is None:
        return lambda: kept
    share = chance.choice([0.1, 0.5, 0.9])
    return lambda: chance.random() < share

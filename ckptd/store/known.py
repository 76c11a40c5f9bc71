"""Tensor files of the newest checkpoint that this process knows to be right, and what of them can be used again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ckptd.errors import CkptdError
from ckptd.store.manifest import FileEntry, Manifest
from ckptd.store.pack import Pack
from ckptd.store.storages import Stored
from ckptd.store.verify import read_table, verify_pack

RECHECK_SECONDS = 86_400.0
"""What was last read or written longer ago is read again before it is referred to."""
MOST_FILES = 64
"""A checkpoint links at most so many tensor files: the smallest are written together beyond that."""


Identity = tuple[int, int, int, int]


@dataclass
class KnownPack:
    """A tensor file in the newest checkpoint."""

    entry: FileEntry
    data_nbytes: int
    """Of all that it holds, as it is in the file."""
    sizes: dict[str, int]
    """Key to its bytes in the file, of what the newest checkpoint uses."""
    stored: dict[str, Stored]
    """By key."""
    inode: Identity
    """By which the file is known again: see ``identity``."""
    checked: float
    """When it was last read or written, on the monotonic clock."""


class Known:
    """What ``write_checkpoint`` may link instead of writing it: the tensor files of one checkpoint.

    It is filled by ``trust``, for a checkpoint that this process has verified in full, and by each commit.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.algorithm = ""
        self._packs: dict[str, KnownPack] = {}
        self._unread: tuple[Manifest, dict[str, tuple[float, Identity]]] | None = None
        """What ``packs`` is to be made of: by name, when a file was found right, and which it was then."""

    @property
    def packs(self) -> dict[str, KnownPack]:
        """The files, by name."""
        self.read()
        return self._packs

    def read(self) -> None:
        """Look into what is trusted, if nobody has: behind a commit, where nobody waits, else when it is used."""
        if self._unread is not None and self.path is not None:
            (manifest, files), self._unread = self._unread, None
            self._read(self.path, manifest, files)

    def trust(self, path: Path, manifest: Manifest, checked: dict[str, float] | None = None) -> None:
        """Take over a checkpoint whose every byte was verified, just now or at ``checked`` (name to time)."""
        self.forget()
        if manifest.format == 1:
            return  # its files have other names for what they hold
        now = time.monotonic()
        try:
            files = {
                entry.name: ((checked or {}).get(entry.name, now), identity(path / entry.name))
                for entry in manifest.packs
            }
        except OSError:
            return  # then the next checkpoint writes everything
        self.path, self.algorithm, self._unread = path, _algorithm(manifest), (manifest, files)

    def _read(self, path: Path, manifest: Manifest, files: dict[str, tuple[float, Identity]]) -> None:
        opened: dict[str, Pack] = {}
        try:
            for entry in manifest.packs:
                opened[entry.name] = Pack(path, entry)
            table = read_table(path, manifest, opened)
            for name, pack in opened.items():
                own = {each.key: each for each in table.values() if each.file == name}
                checked, inode = files[name]
                self._packs[name] = KnownPack(
                    pack.entry, sum(each.nbytes for each in pack.entries.values()),
                    {key: pack.find(each)[0].nbytes for key, each in own.items()}, own, inode, checked,
                )  # fmt: skip
        except (CkptdError, OSError):
            self.forget()  # then the next checkpoint writes everything
        finally:
            for pack in opened.values():
                pack.close()

    def forget(self) -> None:
        """Trust nothing."""
        self.path, self.algorithm, self._unread = None, "", None
        self._packs = {}

    def usable(
        self, wanted: Iterable[str], algorithm: str, hurried: Callable[[], bool] = lambda: False
    ) -> dict[str, list[str]]:
        """Which tensor files to link for the wanted keys: name to the keys that it then provides.

        ``hurried``: whether there is no time to read anything; asked again and again.
        """
        packs = self.packs
        if self.path is None or algorithm != self.algorithm:
            return {}
        wanted = set(wanted)
        found: dict[str, list[str]] = {}
        for name, pack in packs.items():
            keys = [key for key in pack.sizes if key in wanted]
            if (
                keys
                and 2 * sum(pack.sizes[key] for key in keys) >= pack.data_nbytes
                and self._right(name, hurried)
            ):
                found[name] = keys
        most = sorted(found, key=lambda name: -self.packs[name].data_nbytes)[:MOST_FILES]
        return {name: found[name] for name in most}

    def _right(self, name: str, hurried: Callable[[], bool]) -> bool:
        """Whether a file is still the one that was found right, and that not too long ago.

        Before a preemption there may be seconds left, and the file may be of a hundred gigabytes: then it is
        taken to be what it was. Whoever resumes reads it.
        """
        assert self.path is not None
        pack = self.packs[name]
        try:
            if identity(self.path / name) != pack.inode:
                return False
            if time.monotonic() - pack.checked < RECHECK_SECONDS or hurried():
                return True
            opened = Pack(self.path, pack.entry)
            try:
                verify_pack(
                    self.path, opened, list(pack.stored.values()), self.algorithm, lambda _: _go_on(hurried)
                )
            finally:
                opened.close()
        except _HurriedError:
            return True
        except (CkptdError, OSError):
            return False  # damaged, or gone: what it held is in memory, and is written anew
        pack.checked = time.monotonic()
        return True

    def checked(self) -> dict[str, float]:
        """When each file was last found right."""
        if self._unread is not None:
            return {name: checked for name, (checked, _) in self._unread[1].items()}
        return {name: pack.checked for name, pack in self._packs.items()}


class _HurriedError(Exception):
    """There is no time to read on."""


def _go_on(hurried: Callable[[], bool]) -> None:
    if hurried():
        raise _HurriedError


def identity(file: Path) -> Identity:
    """Device, number, size and time of the last change of a file. Raises OSError."""
    status = os.stat(file, follow_symlinks=False)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _algorithm(manifest: Manifest) -> str:
    return manifest.packs[0].hash.partition(":")[0] if manifest.packs else ""

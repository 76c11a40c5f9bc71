"""The files that the program has open for writing, whoever holds them.

While the program runs on its own nothing watches it: at a dump the descriptors are read from /proc, and an
object is looked for only for those that no variable of the program leads to (a logging handler's stream).
During a replay the guards hand out all such files, and note them here.

A file that is opened, appended to and closed again shows in no descriptor, so an audit hook notes the paths:
what such a file has grown by since a checkpoint is cut off when the program goes back to it.
"""

from __future__ import annotations

import gc
import glob
import io
import os
import stat
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_noted: list[weakref.ref[Any]] = []
real_open = io.open
appended: dict[str, None] = {}
"""Paths that have been opened for appending, in their order."""
descriptors: set[str] = set()
"""Paths that os.open has opened for writing: what it gives is a number, which means nothing in another process."""
before_sizes: list[Callable[[], None]] = []
"""Called at a dump before the sizes are read."""
after_cut: list[Callable[[], None]] = []
"""Called on a resume once the files have been cut back."""
_watched: dict[str, None] = {}
NEW = -1
"""In place of a size: the path is a pattern, and what matches and isn't among the others came later."""
FILES = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.FileIO)


def watch_appends() -> None:
    """Note the paths of files that are opened for appending."""
    sys.addaudithook(_see)


def _see(event: str, args: tuple[Any, ...]) -> None:
    if event != "open":
        return
    with suppress(Exception):  # whatever a hook raises would stand in place of what the open itself says
        path, mode, flags = args
        if (isinstance(mode, str) and "a" in mode) or (mode is None and flags & os.O_APPEND):
            appended[os.path.abspath(os.fsdecode(path))] = None
        if mode is None and flags & os.O_ACCMODE != os.O_RDONLY:
            descriptors.add(os.path.realpath(os.fsdecode(path)))


def watch(pattern: str) -> None:
    """Files that match (as glob has it, ``**`` for any folders) are the program's own and only ever grow: they are
    cut back too, and those that a checkpoint has not known are removed. Valid for the dump that is under way."""
    _watched[pattern] = None


def appended_sizes() -> list[tuple[str, int]]:
    """The regular files among them, with their sizes in bytes, and the patterns that are watched."""
    for action in before_sizes:
        action()
    for pattern in _watched:
        appended.update(dict.fromkeys(_matching(pattern)))
    sizes = [(path, os.stat(path).st_size) for path in appended if os.path.isfile(path)]
    sizes += [(pattern, NEW) for pattern in _watched]
    _watched.clear()
    return sizes


def _matching(pattern: str) -> list[str]:
    return [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]


def cut_back(sizes: list[tuple[str, int]]) -> list[str]:
    """Cut files to what they had at a checkpoint; the paths of those that have less now."""
    short = []
    known = {path for path, _ in sizes}
    for path, size in sizes:
        if size == NEW:
            for late in set(_matching(path)) - known:
                os.remove(late)
            continue
        appended[path] = None
        now = os.stat(path).st_size if os.path.isfile(path) else -1
        if now > size:
            os.truncate(path, size)
        elif now < size:
            short.append(path)
    for action in after_cut:
        action()
    return short


def note(file: Any) -> None:
    """Remember a file that was opened for writing in a replay."""
    _noted[:] = [each for each in _noted if each() is not None]
    _noted.append(weakref.ref(file))


def noted() -> list[Any]:
    """Files noted that are still open, in their order."""
    return [file for file in (each() for each in _noted) if file is not None and not file.closed]


def forget() -> None:
    """The replay is over."""
    _noted.clear()


def written() -> dict[int, str]:
    """Descriptors above 2 of regular files that are open for writing, with their paths."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            path = os.readlink(f"/proc/self/fd/{fd}")
            if (
                fd > 2
                and regular
                and path.startswith("/")
                and not path.startswith("/memfd:")
                and _writable(fd)
            ):
                found[fd] = path
        except OSError:  # closed by now, listdir's own among them
            continue
    return found


def _writable(fd: int) -> bool:
    with real_open(f"/proc/self/fdinfo/{fd}") as info:
        flags = next(line for line in info if line.startswith("flags:"))
    return int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY


def holders(fds: set[int]) -> dict[int, Any]:
    """The outermost file object of each descriptor; walks all objects that there are."""
    found: dict[int, Any] = {}
    for obj in gc.get_objects():
        if type(obj) in FILES and not obj.closed and obj.fileno() in fds:
            known = found.get(obj.fileno())
            if known is None or FILES.index(type(obj)) < FILES.index(type(known)):
                found[obj.fileno()] = obj
    return found

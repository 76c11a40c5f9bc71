"""A file that appears: for whatever can touch a file, a preStop hook or a cron job as well as a person.

It is looked at each second, and at once where inotify tells of it; which on network file systems it doesn't.
"""

from __future__ import annotations

import json
import os
import select
import stat
import time
from io import FileIO
from pathlib import Path
from typing import Any

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from ckptd.errors import UsageError
from ckptd.notices.clock import unix_time
from ckptd.notices.event import KINDS, LEAVE, Ears, Notice, Over
from ckptd.settings import parse_duration

NAME = "file"
EVERY = 1.0
"""Seconds between looks."""
LONGEST = 65536
"""Bytes that are read of it."""


class Appears:
    """A source."""

    name = NAME

    def __init__(self, path: Path) -> None:
        """``path``: of the file, absolute; its folder need not be there."""
        self._path = path
        self._standing: Notice | None = None
        self._seen: tuple[float, bytes] | None = None

    def watch(self, ears: Ears, over: Over) -> None:
        """See ckptd.notices.event.Source."""
        with _Stir(self._path) as stir:
            while not over.is_set():
                stir.follow()
                self._look(ears)
                ears.well()
                stir.wait(over, EVERY)

    def _look(self, ears: Ears) -> None:
        seen = _read(self._path)
        if seen is None:
            if self._standing is not None:
                gone = self._standing
                ears.tell(
                    Notice(NAME, gone.kind, gone.id, gone.deadline, f"{self._path} is gone", withdrawn=True)
                )
            self._standing = self._seen = None
        elif seen != self._seen:
            self._seen = seen
            self._standing = _understand(self._path, *seen)
            ears.tell(self._standing)


def _read(path: Path) -> tuple[float, bytes] | None:
    """(Unix seconds of its last change, what it holds); None if it isn't there. Raises OSError."""
    try:
        # Not to be kept waiting by a fifo that nobody writes to.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return path.stat().st_mtime, b""  # it is there, which says enough
    try:
        state = os.fstat(number)
        return state.st_mtime, os.read(number, LONGEST) if stat.S_ISREG(state.st_mode) else b""
    finally:
        os.close(number)


def _understand(path: Path, changed: float, content: bytes) -> Notice:
    """What a file means: '', a duration from its last change on, or JSON with 'in' or 'at', 'kind' and 'text'."""
    text = content.decode("utf-8", "replace").strip()
    try:
        said: Any = json.loads(text)
    except (ValueError, RecursionError):
        said = {"in": text}
    facts = said if isinstance(said, dict) else {"in": said}
    words = str(facts.get("text") or f"{path} is there")
    kind = facts.get("kind", LEAVE)
    if kind not in KINDS:
        words, kind = f"{words} (its kind is none of {', '.join(KINDS)})", LEAVE
    try:
        deadline = _deadline(facts, changed)
    except (UsageError, OverflowError):
        words, deadline = f"{words} (when is not understood: write 30s, or JSON)", None
    return Notice(NAME, kind, str(path), deadline, words)


def _deadline(facts: dict[str, Any], changed: float) -> float | None:
    """By 'at', a time, or 'in', a duration; raises UsageError."""
    now = time.time()
    if facts.get("at") not in (None, ""):
        at = facts["at"]
        when = float(at) if isinstance(at, int | float) else unix_time(str(at))
        if when is None:
            raise UsageError(f"{at!r} is no time")
        left = when - now
    elif facts.get("in") not in (None, ""):
        left = parse_duration(str(facts["in"])) - max(0.0, now - changed)
    else:
        return None
    return time.monotonic() + max(0.0, left)


class _Stir:
    """Tells that something happens around a file, where inotify can."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._observer: Any = None  # watchdog's Observer is a class only by its own reckoning
        self._folder = (0, 0)

    def __enter__(self) -> _Stir:
        self._out, other = os.pipe()
        os.set_blocking(self._out, False)
        os.set_blocking(other, False)
        self._in = open(other, "wb", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        os.close(self._out)
        self._in.close()

    def follow(self) -> None:
        """Watch the folder, if it is there and isn't watched yet."""
        try:
            state = self._path.parent.stat()
        except OSError:
            self._leave()
            return
        if (state.st_dev, state.st_ino) == self._folder and self._observer.is_alive():
            return
        self._leave()
        try:
            observer = Observer()
            observer.schedule(_Handler(self._in, str(self._path)), str(self._path.parent))
            observer.start()
        except (OSError, RuntimeError):
            return  # no inotify here, or no more of its watches: there is still the look each second
        self._observer, self._folder = observer, (state.st_dev, state.st_ino)

    def _leave(self) -> None:
        observer, self._observer, self._folder = self._observer, None, (0, 0)
        if observer is not None:
            observer.stop()
            observer.join(1.0)

    def wait(self, over: Over, seconds: float) -> None:
        """Until something happens, it is over, or the time is."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        poll.register(over.fileno(), select.POLLIN)
        if any(number == self._out for number, _ in poll.poll(seconds * 1000)):
            os.read(self._out, 65536)


class _Handler(FileSystemEventHandler):
    def __init__(self, out: FileIO, path: str) -> None:
        self._out, self._path = out, path

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called in watchdog's thread."""
        if event.event_type in ("opened", "closed_no_write"):
            return  # our own looks, or they would never end
        if self._path in (os.fsdecode(event.src_path), os.fsdecode(event.dest_path)):
            try:
                self._out.write(b"!")  # if it is full it is readable, which is all that is wanted
            except ValueError:
                pass  # closed: nobody waits any more


def file_source(argument: str) -> Appears:
    """``argument``: the file's path. Raises UsageError."""
    if not argument:
        raise UsageError("--notices file: which one? write file:/run/ckptd/leave")
    return Appears(Path(os.path.abspath(os.path.expanduser(argument))))

"""Work that may wait for a disk, done in threads so that the loop never does."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Done:
    """One piece of work is over."""

    tag: str
    value: object = None
    error: Exception | None = None


class Worker:
    """A thread that does one thing after another and reports each to the loop through ``fileno()``."""

    def __init__(self, name: str) -> None:
        self._todo: queue.SimpleQueue[tuple[str, Callable[[], object]] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        # A daemon thread: a disk that hangs must not keep ckptd from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable when something is done."""
        return self._read

    def submit(self, tag: str, work: Callable[[], object]) -> None:
        """Have ``work`` done; its result or error comes back under ``tag``."""
        self._todo.put((tag, work))

    def results(self) -> list[Done]:
        """What has been done since the last call, without waiting."""
        try:
            while os.read(self._read, 4096):
                pass
        except BlockingIOError:
            pass  # emptied: the usual case
        found: list[Done] = []
        while not self._done.empty():
            found.append(self._done.get())
        return found

    def close(self, wait: float) -> bool:
        """Do what was submitted, then end the thread; False if that took longer than ``wait`` seconds."""
        self._todo.put(None)
        self._thread.join(wait)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._todo.get()) is not None:
            tag, work = item
            try:
                done = Done(tag, work())
            except Exception as error:  # noqa: BLE001 - whatever it is, the loop decides
                done = Done(tag, error=error)
            self._done.put(done)
            try:
                os.write(self._write, b".")
            except BlockingIOError:
                continue  # the pipe is full of wake-ups already

"""The event loop: sockets, descriptors, timers and signals, in one thread that never waits for else."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any

import zmq

_MAX_POLL = 3600.0
"""Seconds; the poller's clock is an int of milliseconds."""


class Loop:
    """Callbacks by descriptor and by time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = clock
        self._poller = zmq.Poller()
        self._readers: dict[Any, Callable[[], None]] = {}
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}

    def watch(self, source: zmq.Socket[bytes] | int, callback: Callable[[], None]) -> None:
        """Call back whenever a socket or descriptor can be read."""
        self._poller.register(source, zmq.POLLIN)
        self._readers[source] = callback

    def forget(self, source: zmq.Socket[bytes] | int) -> None:
        """Don't call back for it any more."""
        if self._readers.pop(source, None) is not None:
            self._poller.unregister(source)

    def at(self, name: str, when: float, callback: Callable[[], None]) -> None:
        """Call back once at ``when`` (of ``now()``); a timer of the same name is replaced. Raises ValueError: nan."""
        if when != when:
            raise ValueError(f"the time of {name} is no number")
        self._timers[name] = (when, callback)

    def after(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, ``seconds`` from now."""
        self.at(name, self.now() + seconds, callback)

    def cancel(self, name: str) -> None:
        """Forget a timer, if there is one."""
        self._timers.pop(name, None)

    def turn(self) -> None:
        """Wait for something to happen, and handle it."""
        now = self.now()
        first = min((when for when, _ in self._timers.values()), default=now + _MAX_POLL)
        wait = min(max(first - now, 0.0), _MAX_POLL)
        for source, _ in self._poller.poll(int(wait * 1000 + 0.999)):
            if source in self._readers:  # an earlier callback may have forgotten it
                self._readers[source]()
        now = self.now()
        for name, (when, callback) in list(self._timers.items()):
            # An earlier callback may have cancelled or moved this one.
            if when <= now and self._timers.get(name) == (when, callback):
                del self._timers[name]
                callback()


class Signals:
    """Signals as readable bytes: what arrives while the context is open can be read from ``fileno()``.

    A signal that was ignored when ckptd started (nohup, a background job) stays ignored.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
        self._before: dict[int, Any] = {}
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._wakeup = -1
        self.mask: set[int] = set()
        """The signal mask that ckptd was started with, for the job."""

    def fileno(self) -> int:
        """Readable when a signal has arrived."""
        return self._read

    def read(self) -> list[int]:
        """Signals that have arrived since the last call."""
        try:
            return list(os.read(self._read, 4096))
        except BlockingIOError:
            return []

    def __enter__(self) -> Signals:
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
            self._before[number] = signal.signal(number, _ignore)
        # Blocked, not ignored: to take the terminal back, or to write to it, must not stop us.
        self.mask = {int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        os.close(self._read)
        os.close(self._write)


def _ignore(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor has it already."""

"""Trying again: how often, and how long to wait in between."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ckptd.errors import RemoteError

Result = TypeVar("Result")


class GivenUpError(RemoteError):
    """Nobody waits for it any more."""


@dataclass(frozen=True)
class Patience:
    """Waits double from ``first`` to ``longest`` seconds, each of them drawn between half of that and all."""

    tries: int = 5
    first: float = 0.2
    longest: float = 10.0

    def wait(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, from 1."""
        full = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return full * random.uniform(0.5, 1.0)


USUAL = Patience()
"""For one object."""


class Stop:
    """Says to all threads of a transfer that nobody wants it any more, or that it should hold on."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._going = threading.Event()
        self._going.set()

    def stop(self) -> None:
        """For good."""
        self._stopped.set()
        self._going.set()

    def hold(self) -> None:
        """Begin no new piece until ``go``."""
        self._going.clear()

    def go(self) -> None:
        """Go on."""
        self._going.set()

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopped.is_set()

    def check(self) -> None:
        """Wait while it is held; raises GivenUpError once it is stopped."""
        self._going.wait()
        if self._stopped.is_set():
            raise GivenUpError("it was given up")

    def sleep(self, seconds: float) -> None:
        """Wait, or raise GivenUpError as soon as it is stopped."""
        if self._stopped.wait(seconds):
            raise GivenUpError("it was given up")


def insist(work: Callable[[], Result], patience: Patience, stop: Stop) -> Result:
    """Do it, and where that fails for a reason that may pass, again. Raises RemoteError: the last one."""
    failures = 0
    while True:
        stop.check()
        try:
            return work()
        except RemoteError as error:
            failures += 1
            if not error.again or failures >= patience.tries:
                raise
        stop.sleep(patience.wait(failures))

"""Breaks in the writing of a checkpoint that nobody waits for.

The copy in memory is safe from the death of the process, so the disk has time; and whoever reads a gigabyte from
memory and hands it to the disk in a third of a second takes what training would have had of the memory's bandwidth.
"""

from __future__ import annotations

import time
from collections.abc import Callable

IDLE = 16.0
"""How many times as long as it worked it does nothing then."""
SLICE = 0.02
"""Seconds between two looks at whether somebody waits now."""


class Resting:
    """The breaks of one checkpoint."""

    def __init__(self, budget: float, hurried: Callable[[], bool]) -> None:
        """``budget``: seconds in all, at most. ``hurried``: whether somebody waits after all."""
        self.taken = 0.0
        """Seconds so far."""
        self._budget = budget
        self._hurried = hurried
        self._since = time.monotonic()

    def take(self) -> None:
        """Some work is done: rest in proportion."""
        began = time.monotonic()
        until = began + min(IDLE * (began - self._since), self._budget - self.taken)
        while (now := time.monotonic()) < until and not self._hurried():
            time.sleep(min(SLICE, until - now))
        self._since = time.monotonic()
        self.taken += self._since - began

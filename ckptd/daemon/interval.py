"""How often a job is saved where the user did not say: from what a dump costs, and how often the job dies.

The best interval between checkpoints of cost C on a machine that fails every M seconds is about sqrt(2 C M) (Young,
A first order approximation to the optimum checkpoint interval, CACM 17(9), 1974). Training must not be slowed
by more than CEILING either, and the disk must have time of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

CEILING = 0.005
"""Part of its time that training may stand still for periodic dumps."""
DUTY = 0.05
"""Part of the time in which a disk may be kept busy with them."""
FIRST = 60.0
"""Seconds of training before the first one, whose cost nobody knows; and the shortest interval."""
LONGEST = 3600.0
LIFE = 4 * 3600.0
"""Seconds after which a job is taken to die that has not died yet: preemptible machines live for hours."""
PATIENT = 8.0
"""An interval grows to so many times itself at most where dumps fail one after the other."""


@dataclass
class Interval:
    """The interval between periodic checkpoints, and what it follows from."""

    blocked: float = 0.0
    """Seconds that training stood still for the last one."""
    saving: float = 0.0
    """Seconds from that until it was durable."""
    failures: int = 0
    """How many times the job was interrupted."""
    ran: float = 0.0
    """Seconds that it has run in all."""
    failed: int = 0
    """Dumps in a row that came to nothing."""

    def dumped(self, blocked: float, saving: float) -> None:
        """One was taken, and is durable."""
        self.blocked, self.saving, self.failed = blocked, saving, 0

    def seconds(self) -> float:
        """From one to the next."""
        life = (self.ran + LIFE) / (self.failures + 1)
        best = max(FIRST, self.blocked / CEILING, self.saving / DUTY, sqrt(2 * (self.blocked or 0.1) * life))
        return min(best, LONGEST) * min(2.0**self.failed, PATIENT)

    def why(self) -> str:
        """One sentence that explains it."""
        if not self.blocked:
            return f"every {self.seconds():.0f} s until the first has shown what one costs"
        share = self.blocked / self.seconds()
        text = f"every {self.seconds():.0f} s: each stops training for {self.blocked:.2g} s ({share:.2%} of the time)"
        return f"{text}; the last {self.failed} failed" if self.failed else text

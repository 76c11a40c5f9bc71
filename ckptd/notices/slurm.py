"""Slurm: the end of the job's time, as it was when the job began.

SLURM_JOB_END_TIME is Unix seconds by the controller's clock. What `scontrol update` changes afterwards can't be
seen in it; preemption and --signal come as signals. Source: sbatch(1), 'OUTPUT ENVIRONMENT VARIABLES'.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ckptd.errors import UsageError
from ckptd.notices.clock import SETTLED, clock_words
from ckptd.notices.event import LEAVE, Ears, Notice, Over, Unheard
from ckptd.settings import parse_duration

NAME = "slurm"
END = "SLURM_JOB_END_TIME"
LEAD = 120.0
"""Seconds before the end at which it is told."""
EVERY = 1.0
"""Seconds between looks at the clock."""
SLACK = 5.0
"""Seconds by which the clock may be set back without the notice being withdrawn."""


class Slurm:
    """A source."""

    name = NAME

    def __init__(self, end: float, lead: float = LEAD, clock: Callable[[], float] = time.time) -> None:
        """``end``: Unix seconds; ``lead``: seconds before it; ``clock``: gives Unix seconds."""
        self._end, self._lead, self._clock = end, lead, clock

    def watch(self, ears: Ears, over: Over) -> None:
        """See ckptd.notices.event.Source."""
        told: Notice | None = None
        while not over.is_set():
            left = self._end - self._clock()  # anew each time: the clock may be set while we wait
            if told is None and left < -SETTLED:
                raise Unheard(
                    f"{END} is {clock_words(self._end)}, and the job still runs: it is another job's, or may overrun"
                )
            ears.well()
            if left <= self._lead:
                told = Notice(NAME, LEAVE, END, time.monotonic() + left, _text(self._end))
                ears.tell(told)
            elif told is not None and left > self._lead + SLACK:
                ears.tell(Notice(NAME, LEAVE, END, told.deadline, told.text, withdrawn=True))
                told = None
            over.wait(min(EVERY, left - self._lead) if left > self._lead else EVERY)


def _text(end: float) -> str:
    return f"Slurm ends this job at {clock_words(end)}"


def slurm_source(env: Mapping[str, str], argument: str) -> Slurm:
    """``argument``: how long before the end it is told ('5m'), '' for LEAD. Raises UsageError."""
    lead = parse_duration(argument) if argument else LEAD
    try:
        return Slurm(float(int(env.get(END, ""))), lead)
    except ValueError:
        raise UsageError(
            f"--notices slurm: {END} is not set to a time, so this is no Slurm job, or one without a time limit"
        ) from None

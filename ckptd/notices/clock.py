"""Times as metadata services write them, and what they are on this process's clock."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

SETTLED = 600.0
"""Seconds after its time at which what was announced has plainly not happened: AWS keeps showing a stop that failed."""


def unix_time(text: str) -> float | None:
    """Unix seconds of '2020-04-24T17:11:44Z' or 'Mon, 19 Sep 2016 18:29:47 GMT', UTC if it names no zone; else None."""
    try:
        when = datetime.fromisoformat(text.strip().upper().replace("Z", "+00:00"))
    except ValueError:
        try:
            when = parsedate_to_datetime(text.strip())
        except (
            ValueError,
            TypeError,
            IndexError,
        ):  # the last two are its own on some texts before Python 3.13
            return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return when.timestamp() if 1970 < when.year < 2200 else None


def clock_words(when: float) -> str:
    """'17:11:44 UTC', with the date if it is more than half a day off."""
    day = "" if abs(when - time.time()) < 43200 else "%Y-%m-%d "
    return datetime.fromtimestamp(when, timezone.utc).strftime(f"{day}%H:%M:%S UTC")


def monotonic_of(when: float, clock: float, heard: float, most: float) -> float:
    """A Unix time on this process's clock: a deadline.

    ``clock`` is the Unix time at the moment ``heard`` (time.monotonic()), by whoever gave the time: a local clock
    may be hours off. What has passed is now, and what is farther off than ``most`` seconds can't be meant.
    """
    return heard + min(max(when - clock, 0.0), most)

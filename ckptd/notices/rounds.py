"""Asking again and again, at a steady pace."""

from __future__ import annotations

import time
from collections.abc import Callable

from ckptd.notices.event import Ears, Over
from ckptd.notices.http import NoAnswer


def go_round(look: Callable[[], None], ears: Ears, over: Over, every: float) -> None:
    """Call ``look`` each ``every`` seconds, from beginning to beginning, until it is over.

    NoAnswer is said to the ears, and doesn't slow the pace; all else goes to the caller.
    """
    while not over.is_set():
        begun = time.monotonic()
        try:
            look()
        except NoAnswer as error:
            if not over.is_set():
                ears.trouble(str(error))
        else:
            ears.well()
        over.wait(max(0.05, begun + every - time.monotonic()))

"""Work on a dump that goes on behind training: one at a time, on a thread that ``threading`` knows nothing of."""

from __future__ import annotations

import atexit
import os
from _thread import allocate_lock
from collections.abc import Callable

from ckptd_agent import threads

AT_EXIT = 60.0
"""Seconds that the end of the program waits at most, so that no device is taken away in the middle of it."""

_under_way = allocate_lock()
_pid = 0


def start(work: Callable[[], None]) -> None:
    """Have it done: here and now if there may be no thread. To be called on the main thread, with nothing under way."""
    global _pid
    if not _pid:
        atexit.register(_wait_at_exit)
    _pid = os.getpid()
    _under_way.acquire()
    try:
        threads.start(_do, work)
    except RuntimeError:
        _do(work)


def wait(seconds: float = -1) -> bool:
    """Until nothing is under way; whether that came in time."""
    if _pid != os.getpid():  # in a forked child nothing ever is
        return True
    over = _under_way.acquire(timeout=seconds)
    if over:
        _under_way.release()
    return over


def _do(work: Callable[[], None]) -> None:
    try:
        work()
    finally:
        _under_way.release()


def _wait_at_exit() -> None:
    wait(AT_EXIT)

"""Threads and processes of the program's own: what they are doing can't be carried over, so a dump is refused."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import threading
from _thread import get_ident
from time import monotonic, sleep  # as they were before the program could patch them
from types import FrameType
from typing import Any

from ckptd.errors import RefusedError
from ckptd_agent.loops import record as r
from ckptd_agent.source import table


def trouble() -> str:
    """A sentence on what runs the program's code besides this process's main thread; '' if nothing does."""
    return _ranks() or busy()


def await_quiet() -> None:
    """Nothing ran beside the main thread at the checkpoint; what the replay has begun again must have ended, too,
    before the state is laid over it.

    Raises RefusedError: it does not end. It waits for something that was done behind its start in a loop that the
    replay has skipped, most likely.
    """
    deadline = monotonic() + PATIENCE
    while why := busy():
        if monotonic() > deadline:
            raise RefusedError(
                f"{why}: it had ended before the checkpoint, and did not in {PATIENCE:g} s of the resume"
            )
        sleep(0.01)


PATIENCE = 60.0
"""Seconds."""


def busy() -> str:
    """A sentence on a thread or child process of this one's that runs the program's code; '' if there is none."""
    deadline = monotonic() + WAIT
    while why := _running():
        if why != _ENDING or monotonic() > deadline:
            return why
        sleep(0.001)
    return ""


WAIT = 0.2
"""Seconds for a thread to come into the program's code, or to end behind it."""
_ENDING = "a thread of the program's is beginning or ending, and where it stands can't be carried over"


def _running() -> str:
    own = {each.ident: each for each in threading.enumerate()}
    frames = sys._current_frames()
    # Our own in a variable of ours would keep itself alive, and the whole capture.
    frames.pop(get_ident(), None)
    for ident, frame in frames.items():
        where = _users_place(frame) if ident != r.main_thread else ""
        if where:
            name = own[ident].name if ident in own else ident
            return f"the program's thread {name!r} runs at {where}, and where a thread stands can't be carried over"
    if any(_is_users(each) for each in own.values()):
        return _ENDING
    for child in multiprocessing.active_children():
        if _is_users(child):
            return (
                f"the program's process {child.name!r} (pid {child.pid}) is running, and what it does can't be "
                "carried over"
            )
    return ""


def _ranks() -> str:
    """A sentence if this process is one of several that train together."""
    size = os.environ.get("WORLD_SIZE", "")
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        size = str(distributed.get_world_size())
    if not size.isdigit() or int(size) < 2:
        return ""
    return f"it is one of {size} ranks, and what is saved of one alone would go on without the others"


def _users_place(frame: FrameType | None) -> str:
    while frame is not None:
        source = table.source_of(frame.f_code)
        if source is not None:
            return f"{source.path}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _is_users(helper: Any) -> bool:
    """Of a thread or process: it is not a library's own, as DataLoader's workers are, or those of a pool that waits
    for work."""
    target: Any = getattr(helper, "function" if isinstance(helper, threading.Timer) else "_target", None)
    while isinstance(target, functools.partial):
        target = target.func
    for code in (
        getattr(target, "__code__", None),
        getattr(type(target).__call__, "__code__", None) if callable(target) else None,
        getattr(type(helper).run, "__code__", None),
    ):
        if code is not None and table.source_of(code) is not None:
            return True
    return False

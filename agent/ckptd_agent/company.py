"""Threads and processes of the program's own: what they are doing can't be carried over, so a dump is refused."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from _thread import get_ident
from types import FrameType
from typing import Any

from ckptd_agent.loops import record as r
from ckptd_agent.source import table


def trouble() -> str:
    """A sentence on a thread or child process that runs the program's code; '' if there is none."""
    if why := _ranks():
        return why
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    frames.pop(
        get_ident(), None
    )  # our own in a variable of ours would keep itself alive, and the whole capture
    for ident, frame in frames.items():
        where = _users_place(frame) if ident != r.main_thread else ""
        if where:
            return (
                f"the program's thread {names.get(ident, ident)!r} runs at {where}, and where a thread stands can't be "
                "carried over"
            )
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


def _is_users(child: Any) -> bool:
    """Not a library's own: a DataLoader's worker, or one of a pool that waits for work."""
    target = getattr(child, "_target", None)
    for code in (getattr(target, "__code__", None), getattr(type(child).run, "__code__", None)):
        if code is not None and table.source_of(code) is not None:
            return True
    return False

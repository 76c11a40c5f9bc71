"""Threads of ours, of which the program sees nothing: ``threading`` doesn't know them, and signals don't reach them."""

from __future__ import annotations

import signal
from _thread import start_new_thread
from collections.abc import Callable
from typing import Any


def start(function: Callable[..., Any], *args: Any) -> int:
    """Start one; its ident. Raises RuntimeError where there may be no more.

    It inherits the mask: a signal for the process must interrupt the main thread, in whatever call that sits.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return start_new_thread(function, args)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

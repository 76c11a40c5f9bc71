"""What a program sees of its signals while ours are in the kernel: its own handlers and wake-up descriptor.

A forked child is as if we had never been there, but for a notice that is sent to all (ckptd_agent.shield).
"""

from __future__ import annotations

import os
import signal
import sys
from _thread import get_ident
from time import monotonic
from typing import Any

from ckptd_agent import notice

ANSWER = 5.0
"""Seconds in which a supervisor answers a notice; one that doesn't is as good as none."""

real_signal, real_getsignal, real_set_wakeup_fd = signal.signal, signal.getsignal, signal.set_wakeup_fd


class Pending:
    """A notice that has come and has not yet had its effect."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.until = monotonic() + ANSWER
        self.dump = ""
        """Id of the dump that answers it; '' until the supervisor has."""
        self.released = False


class State:
    """All that is known of the signals, in one process."""

    def __init__(self) -> None:
        self.pid = 0
        self.main = 0
        self.handlers: dict[int, Any] = {}
        """The program's own handlers of the notice signals."""
        self.fd = -1
        """Our wake-up descriptor; it is the one that the kernel's side knows."""
        self.program_fd = -1
        """The one that the program set."""
        self.pending: dict[str, Pending] = {}
        """At most one, under 'notice': setdefault tells who of two threads was first."""
        self.leave = ""
        """Id of the last dump with which the process is to leave; '' once it has come to nothing."""
        self.masks: dict[int, set[Any]] = {}
        """What was blocked before a fork, by thread."""
        self.noted: set[int] = set()
        """Signals that the agent thread has dealt with and whose handler is yet to run."""
        self.early: set[int] = set()
        """Signals whose handler has run and of which the agent thread is yet to hear."""
        self.echoes = 0
        """Signals that the agent thread has sent itself."""


state = State()


def _program_signal(signalnum: int, handler: Any) -> Any:
    if signalnum not in state.handlers or get_ident() != state.main or not _is_handler(handler):
        return real_signal(signalnum, handler)
    before = state.handlers[signalnum]
    state.handlers[signalnum] = handler if callable(handler) else signal.Handlers(handler)
    return before


def _program_getsignal(signalnum: int) -> Any:
    return state.handlers[signalnum] if signalnum in state.handlers else real_getsignal(signalnum)


def _program_set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
    if state.fd < 0:
        return real_set_wakeup_fd(fd, warn_on_full_buffer=warn_on_full_buffer)
    real_set_wakeup_fd(fd, warn_on_full_buffer=warn_on_full_buffer)  # raises what there is to raise
    real_set_wakeup_fd(state.fd, warn_on_full_buffer=False)
    before, state.program_fd = state.program_fd, fd
    return before


def _is_handler(handler: Any) -> bool:
    return callable(handler) or handler in (signal.SIG_DFL, signal.SIG_IGN)


def put_on(fd: int) -> None:
    """Take the place of the ``signal`` module's functions; ``fd`` is the agent thread's descriptor."""
    state.fd = fd
    state.program_fd = real_set_wakeup_fd(fd, warn_on_full_buffer=False)
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_take_off)
    for ours, theirs in (
        (_program_signal, real_signal),
        (_program_getsignal, real_getsignal),
        (_program_set_wakeup_fd, real_set_wakeup_fd),
    ):
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(ours, name, getattr(theirs, name, None))
        setattr(signal, theirs.__name__, ours)


def _hold() -> None:
    """Before a fork: a signal must not meet the child while our handlers are still in it.

    The interpreter would forget it there, and a worker that is terminated at once would live on.
    """
    if state.fd >= 0:
        state.masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, state.handlers)


def _let_go() -> None:
    mask = state.masks.pop(get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _take_off() -> None:
    """In a forked child, but not in its own children: what these find is not ours."""
    shield: Any = sys.modules.get("ckptd_agent.shield")
    if state.fd < 0:
        if shield is not None:
            shield.renew()
        return
    for number, handler in state.handlers.items():
        real_signal(number, handler)
    real_set_wakeup_fd(state.program_fd)
    signal.signal, signal.getsignal, signal.set_wakeup_fd = real_signal, real_getsignal, real_set_wakeup_fd
    notice.forget()
    if shield is not None:
        shield.put_on(state.handlers)
    _let_go()
    state.__init__()  # type: ignore[misc]

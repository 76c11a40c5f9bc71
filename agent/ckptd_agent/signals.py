"""The signals that ask the process to end. Ours stays in the kernel, the program sees its own handlers.

A handler of Python's runs only when the main thread gets to it, which may be never (a hung collective). So
the interpreter's C handler also writes the number into the agent thread's descriptor, and the thread tells
the supervisor at once. What the signal would have done without ckptd is done after the dump (``leave``),
or right away if there is no supervisor, none that answers, or a resume still under way.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from _thread import get_ident
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from ckptd_agent import link

if TYPE_CHECKING:
    from ckptd.protocol import Message

ANSWER = 5.0
"""Seconds in which a supervisor answers a notice; one that doesn't is as good as none."""

_signal, _getsignal, _set_wakeup_fd = signal.signal, signal.getsignal, signal.set_wakeup_fd


class _Pending:
    """A notice that has come and has not yet had its effect."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.until = monotonic() + ANSWER
        self.dump = ""
        """Id of the dump that answers it; '' until the supervisor has."""
        self.released = False


class _State:
    def __init__(self) -> None:
        self.pid = 0
        self.main = 0
        self.handlers: dict[int, Any] = {}
        """The program's own handlers of the notice signals."""
        self.fd = -1
        """Our wake-up descriptor; it is the one that the kernel's side knows."""
        self.program_fd = -1
        """The one that the program set."""
        self.pending: dict[str, _Pending] = {}
        """At most one, under 'notice': setdefault tells who of two threads was first."""
        self.masks: dict[int, set[Any]] = {}
        """What was blocked before a fork, by thread."""
        self.echoes = 0
        """Signals that the agent thread has sent itself."""


_state = _State()


def install(fd: int) -> str | None:
    """Take over the notice signals; ``fd`` is the agent thread's. A sentence for the user if that can't be.

    A signal that is ignored (nohup and the like) stays ignored.
    """
    _state.pid, _state.main = os.getpid(), get_ident()
    unreachable = []
    for number in _wanted():
        try:
            present = _getsignal(number)
            if present is None:  # set by C code, which we could not call
                unreachable.append(signal.Signals(number).name)
            elif present is not signal.SIG_IGN:
                _signal(number, _on_signal)
                _state.handlers[number] = present
        except (ValueError, OSError):  # not on the main thread; SIGKILL
            unreachable.append(signal.Signals(number).name)
    if _state.handlers:
        _state.fd = fd
        _state.program_fd = _set_wakeup_fd(fd, warn_on_full_buffer=False)
        _wrap()
        os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_restore)
    if unreachable:
        return (
            f"{', '.join(unreachable)} can't be taken over in this process (torch was imported by a thread "
            "that is not the main one, or C code handles it): such a signal ends it without a dump"
        )
    return None


def received() -> int | None:
    """The notice signal that has reached us and has not had its effect yet."""
    pending = _state.pending.get("notice")
    return pending.number if pending else None


def leave(signum: int | None = None) -> None:
    """End the process as the notice would have ended it. Returns if the program's own handler returns.

    To be called on the main thread; what the handler raises goes through. Without ``signum`` it is the
    notice that has come, otherwise SIGTERM.
    """
    asked = signum or received()
    number = asked or signal.SIGTERM
    handler = _state.handlers[number] if number in _state.handlers else _getsignal(number)
    _state.pending.clear()
    if not callable(handler):
        if handler is signal.SIG_IGN and asked:
            return
        _end(number)
    _call(handler, number, _program_frame())


def _call(handler: Any, number: int, frame: FrameType | None) -> None:
    if _state.program_fd >= 0:  # asyncio learns of signals by this
        try:
            os.write(_state.program_fd, bytes([number]))
        except OSError:
            pass
    handler(number, frame)


# ---- on the agent thread ------------------------------------------------------------------------


def heard(data: bytes) -> None:
    """The interpreter's C handler wrote these signal numbers."""
    for number in data:
        if number in _state.handlers:
            if _state.echoes:
                _state.echoes -= 1
            elif link.connected():  # else the handler will do what is due
                _notice(number)
        elif number and _state.program_fd >= 0:
            try:
                os.write(_state.program_fd, bytes([number]))
            except OSError:  # as the interpreter: full or closed is the program's affair
                pass


def told(message: Message) -> None:
    """The supervisor answered a notice, or its dump came to nothing: then training goes on."""
    pending = _state.pending.get("notice")
    kind = type(message).__name__
    if pending is None:
        return
    if kind == "Dump" and getattr(message, "leave", False):
        pending.dump, pending.until = getattr(message, "dump", ""), getattr(message, "deadline", 0.0)
    elif kind in ("Unsaved", "Undumped") and pending.dump and getattr(message, "dump", "") == pending.dump:
        _state.pending.clear()


def tick(now: float) -> float | None:
    """Don't let a notice go unheard: give it its effect when nobody comes to take the dump."""
    pending = _state.pending.get("notice")
    if pending is None or pending.released:
        return None
    if link.waiting():  # the engine sees for itself that the supervisor is gone
        return now + 1.0
    if link.connected() and pending.dump:  # the supervisor has it in hand, and can kill
        return None
    if now < pending.until and (pending.dump or link.connected()):
        return pending.until
    pending.released = True
    if _state.handlers.get(pending.number) is signal.SIG_DFL:
        # The main thread may never get to it, as it need not without us.
        ctypes.CDLL(None).signal(pending.number, 0)
        os.kill(os.getpid(), pending.number)
    else:
        _state.echoes += 1
        signal.pthread_kill(_state.main, pending.number)
    return None


# ---- on the main thread -------------------------------------------------------------------------


def _on_signal(number: int, frame: FrameType | None) -> None:
    pending = _state.pending.get("notice")
    if os.getpid() != _state.pid or not link.connected() or (pending and pending.released):
        _as_without_us(number, frame)
    elif _replaying():
        # The checkpoint that is being resumed is still the newest, and a handler of the program's would
        # see a state that never was.
        _notice(number)
        _end(number)
    else:
        _notice(number)


def _as_without_us(number: int, frame: FrameType | None) -> None:
    handler = _state.handlers.get(number, signal.SIG_DFL)
    _state.pending.clear()
    if callable(handler):
        _call(handler, number, frame)
    elif handler is signal.SIG_DFL:
        _die(number)


def _notice(number: int) -> None:
    new = _Pending(number)
    if _state.pending.setdefault("notice", new) is new:
        from ckptd.protocol import Notice  # in sys.modules since the link was started

        link.send(Notice(number))


def _replaying() -> bool:
    safepoint = sys.modules.get("ckptd_agent.safepoint")
    return safepoint is not None and bool(safepoint.replaying())


def _end(number: int) -> NoReturn:
    """By the signal's default action, with the output so far."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # None, a broken pipe, closed
            pass
    link.flush()
    _die(number)


def _die(number: int) -> NoReturn:
    _signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a container is immune to its own signals


def _program_frame() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("ckptd_agent."):
        frame = frame.f_back
    return frame


# ---- what the program sees ----------------------------------------------------------------------


def _wanted() -> list[int]:
    words = os.environ.get("CKPTD_NOTICE_SIGNALS", "TERM").split(",")
    names = ["SIG" + word.strip().upper().removeprefix("SIG") for word in words]
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]


def _program_signal(signalnum: int, handler: Any) -> Any:
    if signalnum not in _state.handlers or get_ident() != _state.main or not _is_handler(handler):
        return _signal(signalnum, handler)
    before = _state.handlers[signalnum]
    _state.handlers[signalnum] = handler if callable(handler) else signal.Handlers(handler)
    return before


def _program_getsignal(signalnum: int) -> Any:
    return _state.handlers[signalnum] if signalnum in _state.handlers else _getsignal(signalnum)


def _program_set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
    if _state.fd < 0:
        return _set_wakeup_fd(fd, warn_on_full_buffer=warn_on_full_buffer)
    _set_wakeup_fd(fd, warn_on_full_buffer=warn_on_full_buffer)  # raises what there is to raise
    _set_wakeup_fd(_state.fd, warn_on_full_buffer=False)
    before, _state.program_fd = _state.program_fd, fd
    return before


def _is_handler(handler: Any) -> bool:
    return callable(handler) or handler in (signal.SIG_DFL, signal.SIG_IGN)


def _wrap() -> None:
    for ours, theirs in (
        (_program_signal, _signal),
        (_program_getsignal, _getsignal),
        (_program_set_wakeup_fd, _set_wakeup_fd),
    ):
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(ours, name, getattr(theirs, name, None))
        setattr(signal, theirs.__name__, ours)


def _hold() -> None:
    """Before a fork: a signal must not meet the child while our handlers are still in it.

    The interpreter would forget it there, and a worker that is terminated at once would live on.
    """
    _state.masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _state.handlers)


def _let_go() -> None:
    _let_go_of(_state)


def _let_go_of(state: _State) -> None:
    mask = state.masks.pop(get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _restore() -> None:
    """In a forked child: all as if we had never been there."""
    global _state
    old, _state = _state, _State()
    for number, handler in old.handlers.items():
        _signal(number, handler)
    if old.fd >= 0:
        _set_wakeup_fd(old.program_fd)
    signal.signal, signal.getsignal, signal.set_wakeup_fd = _signal, _getsignal, _set_wakeup_fd
    _let_go_of(old)

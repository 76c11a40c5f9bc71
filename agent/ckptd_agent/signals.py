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
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from ckptd_agent import link, notice
from ckptd_agent.disguise import Pending, put_on, real_getsignal, real_signal, state

if TYPE_CHECKING:
    from ckptd.protocol import Message


def install(fd: int) -> str | None:
    """Take over the notice signals; ``fd`` is the agent thread's. A sentence for the user if that can't be.

    A signal that is ignored (nohup and the like) stays ignored.
    """
    state.pid, state.main = os.getpid(), get_ident()
    unreachable = []
    for number in notice.signal_numbers():
        try:
            present = real_getsignal(number)
            if present is None:  # set by C code, which we could not call
                unreachable.append(signal.Signals(number).name)
            elif present is not signal.SIG_IGN:
                real_signal(number, _on_signal)
                state.handlers[number] = present
        except (ValueError, OSError):  # not on the main thread; SIGKILL
            unreachable.append(signal.Signals(number).name)
    if state.handlers:
        _shield_helpers()
        put_on(fd)
    if unreachable:
        return (
            f"{', '.join(unreachable)} can't be taken over in this process (torch was imported by a thread "
            "that is not the main one, or C code handles it): such a signal ends it without a dump"
        )
    return None


def _shield_helpers() -> None:
    try:
        from ckptd_agent import shield

        shield.prepare(notice.begin())
        shield.watch()
    except Exception:  # they are as without us then
        sys.modules.pop("ckptd_agent.shield", None)


def received() -> int | None:
    """The notice signal that has reached us and has not had its effect yet."""
    pending = state.pending.get("notice")
    return pending.number if pending else None


def leave(signum: int | None = None) -> None:
    """End the process as the notice would have ended it. Returns if the program's own handler returns.

    To be called on the main thread; what the handler raises goes through. Without ``signum`` it is the
    notice that has come, otherwise SIGTERM.
    """
    asked = signum or received()
    number = asked or signal.SIGTERM
    handler = state.handlers[number] if number in state.handlers else real_getsignal(number)
    state.pending.clear()
    if not callable(handler):
        if handler is signal.SIG_IGN and asked:
            notice.over()
            return
        trackers: Any = sys.modules.get("ckptd_agent.state.trackers")
        if trackers is not None:
            trackers.part(number)
        _end(number)
    link.leave()
    _call(handler, number, _program_frame())
    _silence()


def _silence() -> None:
    """The handler has only made a note, and the program goes on to where it looks at it. What it prints until
    then comes behind the checkpoint: the resumed process prints it."""
    if sys.stdout is not None:
        sys.stdout.flush()
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 1)
    os.close(null)


def _call(handler: Any, number: int, frame: FrameType | None) -> None:
    if state.program_fd >= 0:  # asyncio learns of signals by this
        try:
            os.write(state.program_fd, bytes([number]))
        except OSError:
            pass
    handler(number, frame)


# ---- on the agent thread ------------------------------------------------------------------------


def heard(data: bytes) -> None:
    """The interpreter's C handler wrote these signal numbers."""
    for number in data:
        if number in state.handlers:
            if state.echoes:
                state.echoes -= 1
            elif number in state.early:
                state.early.discard(number)
            elif link.connected():  # else the handler will do what is due
                state.noted.add(number)
                _notice(number)
        elif number and state.program_fd >= 0:
            try:
                os.write(state.program_fd, bytes([number]))
            except OSError:  # as the interpreter: full or closed is the program's affair
                pass


def told(message: Message) -> None:
    """The supervisor answered a notice, or its dump came to nothing: then training goes on."""
    pending = state.pending.get("notice")
    kind, dump = type(message).__name__, getattr(message, "dump", "")
    if kind == "Dump" and getattr(message, "leave", False):
        state.leave = dump
        notice.stands()
        if pending is not None:
            pending.dump, pending.until = dump, getattr(message, "deadline", 0.0)
    elif kind in ("Unsaved", "Undumped") and dump and dump == state.leave:
        state.leave = ""
        notice.over()
        if pending is not None and pending.dump == dump:
            state.pending.clear()


def tick(now: float) -> float | None:
    """Don't let a notice go unheard: give it its effect when nobody comes to take the dump."""
    notice.linked(link.connected())
    pending = state.pending.get("notice")
    if pending is None or pending.released:
        return None
    if link.waiting():  # the engine sees for itself that the supervisor is gone
        return now + 1.0
    if link.connected() and pending.dump:  # the supervisor has it in hand, and can kill
        return None
    if pending.dump and pending.dump == link.forsaken():
        pending.until = now
    if now < pending.until and (pending.dump or link.connected()):
        return pending.until
    pending.released = True
    notice.give_up()
    if state.handlers.get(pending.number) is signal.SIG_DFL:
        # The main thread may never get to it, as it need not without us.
        ctypes.CDLL(None).signal(pending.number, 0)
        os.kill(os.getpid(), pending.number)
    else:
        state.echoes += 1
        signal.pthread_kill(state.main, pending.number)
    return None


# ---- on the main thread -------------------------------------------------------------------------


def _on_signal(number: int, frame: FrameType | None) -> None:
    pending = state.pending.get("notice")
    if os.getpid() != state.pid or not link.connected() or (pending and pending.released):
        _as_without_us(number, frame)
    elif _replaying():
        # The checkpoint that is being resumed is still the newest, and a handler of the program's would
        # see a state that never was.
        _notice(number)
        _end(number)
    elif number in state.noted:  # it may have come to its end already
        state.noted.discard(number)
    else:
        state.early.add(number)
        _notice(number)


def _as_without_us(number: int, frame: FrameType | None) -> None:
    handler = state.handlers.get(number, signal.SIG_DFL)
    state.pending.clear()
    if os.getpid() == state.pid:
        notice.give_up()
    if callable(handler):
        _call(handler, number, frame)
    elif handler is signal.SIG_DFL:
        _die(number)


def _notice(number: int) -> None:
    new = Pending(number)
    notice.stands()
    if state.pending.setdefault("notice", new) is new:
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
        except Exception:  # None, closed, a broken pipe, or the handler came in the middle of a write
            pass
    link.flush()
    _die(number)


def _die(number: int) -> NoReturn:
    real_signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a container is immune to its own signals


def _program_frame() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("ckptd_agent."):
        frame = frame.f_back
    return frame

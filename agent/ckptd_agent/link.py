"""The line to the supervisor: one thread that owns one ZeroMQ socket, and what other threads may ask of it.

The job must run on unharmed whether the supervisor is slow, full, gone or talks nonsense. So nothing here
blocks a caller (but ``wait_saved``, which is asked to), and the thread imports nothing, holds no lock of the
program's, is unknown to ``threading`` and sleeps in poll until there is something to do.

What is taken from ``_thread``, ``os`` and ``time`` at import is safe from programs that patch them later.
"""

from __future__ import annotations

import atexit
import os
import sys
from _thread import allocate_lock, get_ident
from collections import deque
from io import TextIOWrapper
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    from ckptd.protocol import Dump, Message, Saved, Unsaved, Welcome

ROOM = 128
"""Messages that wait for a supervisor at most."""
PATIENCE = 0.5
"""Seconds without a connection after which the supervisor counts as gone; ZeroMQ tries again each 0.1 s."""
SETTLE = 0.03
"""Seconds that ZeroMQ's own thread gets to write out what it was handed, before the process ends."""


class Ear(Protocol):
    """Whoever follows the notice signals (ckptd_agent.signals); all of it is called on the agent thread."""

    def heard(self, data: bytes) -> None:
        """Signal numbers, as the interpreter wrote them into the wake-up descriptor; 0 is no signal."""

    def told(self, message: Message) -> None:
        """This came from the supervisor, or went to it."""

    def tick(self, now: float) -> float | None:
        """Do what is due; when to be called again (monotonic seconds), None: when something happens."""


class Engine(Protocol):
    """What ckptd_agent.safepoint offers; called on the agent thread."""

    def request(self, dump: Dump) -> None: ...
    def welcome(self, message: Welcome) -> None: ...
    def answered(self, message: Saved | Unsaved) -> None: ...


class State:
    """What the thread and its callers share. Each field has one writer or is safe to change under the GIL;
    there is no lock, because ``send`` may interrupt itself in a signal handler."""

    def __init__(self) -> None:
        self.pid = 0
        self.thread = 0
        self.queue: deque[Message] = deque()
        self.answers: dict[str, Saved | Unsaved] = {}
        self.bell = allocate_lock()
        self.bell.acquire()
        self.waiting = 0
        self.forsaken = ""
        self.up = False
        self.was_up = False
        self.over = False
        self.dropped = 0.0
        self.sent = 0.0
        self.nonsense = 0
        self.leaving = False
        self.engine: Engine | None = None
        self.no_engine = ""
        self.dump: Dump | None = None
        self.greeting: Welcome | None = None
        self.reader = self.writer = -1


_state = State()


def start(ear: Ear, hello: Message) -> int:
    """Start the thread; the descriptor for ``signal.set_wakeup_fd``. Call it on the importing thread."""
    import zmq

    from ckptd import protocol
    from ckptd_agent import line, threads

    state = _state
    state.reader, state.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    state.pid = os.getpid()
    atexit.register(_farewell)
    os.register_at_fork(after_in_child=_after_fork)
    state.thread = threads.start(line.serve, state, ear, hello, zmq, protocol)
    return state.writer


def send(message: Message) -> None:
    """Queue a message. Never blocks, never raises; of what there is no room for, Progress goes first."""
    state = _state
    if state.pid and state.pid != os.getpid():
        return
    if len(state.queue) >= ROOM:
        if is_progress(message):
            return
        try:
            state.queue.popleft()
        except IndexError:  # the thread was faster
            pass
    state.queue.append(message)
    _wake(state)


def connected() -> bool:
    """A supervisor is there. Losses shorter than PATIENCE do not count."""
    state = _state
    return state.up or (state.was_up and not state.over and monotonic() - state.dropped < PATIENCE)


def wait_saved(dump: str, until: float) -> Saved | Unsaved | None:
    """Wait for the answer to Dumped; None when monotonic ``until`` has come or the supervisor is gone."""
    state = _state
    state.waiting += 1
    try:
        while dump not in state.answers:
            left = until - monotonic()
            if not connected():
                state.forsaken = dump
                return None
            if left <= 0:
                return None
            state.bell.acquire(timeout=min(left, PATIENCE / 2))
        return state.answers.pop(dump)
    finally:
        state.waiting -= 1
        _wake(state)


def waiting() -> bool:
    """The engine is in ``wait_saved``."""
    return _state.waiting > 0


def forsaken() -> str:
    """Id of the last dump that was taken for a supervisor that went away; ''."""
    return _state.forsaken


def attach(engine: Engine) -> None:
    """Hand over to the engine what has come, and from now on whatever comes."""
    _state.engine = engine
    _wake(_state)


def decline(why: str) -> None:
    """There is no engine: each request for a dump is answered with this sentence."""
    _state.no_engine = why
    _wake(_state)


def flush(seconds: float = 0.2) -> None:
    """Let what is queued get out, for ``seconds`` at most; does not wait at all if nothing is."""
    state = _state
    if state.pid != os.getpid() or state.over or state.thread == get_ident():
        return
    until = monotonic() + seconds
    while monotonic() < until:
        # A supervisor that has gone is not waited for; one that was not yet reached is.
        unsent = (state.up or not state.was_up) and not all(map(is_progress, [*state.queue]))
        if not unsent and monotonic() - state.sent > SETTLE:
            return
        sleep(0.002)


def refuse(why: str, *, damaged: bool = False) -> NoReturn:
    """End the process, because what comes would not be exact; the supervisor says why.

    ``damaged``: the checkpoint is, so that an older one may do.
    """
    from ckptd.protocol import Refused

    send(Refused(why, damaged))
    flush()
    os._exit(14)


def leave() -> None:
    """The process ends because of a notice: however it does, it has not finished."""
    _state.leaving = True


def _farewell() -> None:
    """The program has come to its end. Registered before its own exit handlers, this runs after them."""
    state = _state
    protocol: Any = sys.modules.get("ckptd.protocol")
    # last_type: the interpreter has shown an exception that nobody caught.
    if state.pid == os.getpid() and not state.leaving and not hasattr(sys, "last_type") and protocol:
        for stream in (sys.stdout, sys.stderr):
            try:
                if type(stream) is TextIOWrapper:  # what else is there may count its calls
                    stream.flush()  # the interpreter is about to: finished means that nothing more comes
            except (OSError, ValueError):  # the interpreter will say so itself
                pass
        _leave_word()
        send(protocol.Finished())
    flush()


def _leave_word() -> None:
    """A file that says the same, for a supervisor that is gone: the next one must not start the program again."""
    folder, attempt = os.environ.get("CKPTD_SEGMENTS"), os.environ.get("CKPTD_ATTEMPT")
    try:
        os.close(os.open(f"{folder}/finished-{attempt}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:  # the folder is gone: so is whoever would have looked
        pass


def nonsense() -> int:
    """How many frames came that are no messages for an agent."""
    return _state.nonsense


def is_progress(message: Message) -> bool:
    """The kind of message that may be lost. (Told by name: this module imports no protocol.)"""
    return type(message).__name__ == "Progress"


def _wake(state: State) -> None:
    if state.writer >= 0:
        try:
            os.write(state.writer, b"\0")
        except OSError:  # full: it is awake
            pass


def _after_fork() -> None:
    """In a forked child there is no thread, and nothing may be sent or closed that is the parent's."""
    global _state
    old, _state = _state, State()
    _forgotten.append(old)
    _state.pid = -1
    for fd in (old.reader, old.writer):
        if fd >= 0:
            os.close(fd)


_forgotten: list[State] = []

"""The agent's thread: the one that owns the socket to the supervisor. ckptd_agent.link is what others use.

It imports nothing while it runs: an import could wait for the main thread, which may wait for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from ckptd_agent import link

if TYPE_CHECKING:
    from ckptd.protocol import Message

HEARTBEAT = 1000
"""Milliseconds between heartbeats, and to wait for an answer: a frozen supervisor is seen after two."""
HEARD = 16
"""Messages from the supervisor that are read before others get their turn."""
ANEW = 1.0
"""Seconds without a connection after which a new one is made: where what came was not ZeroMQ's protocol, or too long,
ZeroMQ doesn't try again by itself."""
TIRED = 100
"""Failures in a row after which the thread gives up."""
T = TypeVar("T")


def serve(state: link.State, ear: link.Ear, hello: Message, zmq: ModuleType, protocol: ModuleType) -> None:
    """The thread's whole life."""
    failures = 0
    try:
        line = _Line(state, ear, hello, zmq, protocol)
        while failures < TIRED:
            try:
                line.turn()
                failures = 0
            except Exception as error:
                failures += 1
                _tell(error)
    except Exception as error:
        _tell(error)
    state.up, state.over = False, True
    try:
        ear.tick(monotonic())  # nobody will come to save this process: that must be known
    except Exception as error:
        _tell(error)


def _tell(error: Exception) -> None:
    if os.environ.get("CKPTD_DEBUG"):
        sys.stderr.write(f"ckptd: agent thread: {type(error).__name__}: {error}\n")


class _Line:
    """The socket and all that only the agent thread touches."""

    def __init__(self, state: link.State, ear: link.Ear, hello: Message, zmq: Any, protocol: Any) -> None:
        self.state, self.ear, self.zmq, self.protocol = state, ear, zmq, protocol
        self.hello = protocol.pack_inward(hello)
        self.greeted = True
        self.asked = ""
        """Id of the last request for a dump; '' once the supervisor is done with it."""
        self.told: Message | None = None
        """The answer to it."""
        # Never term(): that can hang an exit. Context and sockets die with the process.
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        for option, value in (
            # No IMMEDIATE, and no bound that is ever met: with either, a supervisor that floods us and then goes can
            # make ZeroMQ 4.3 abort the process (fq.cpp: !_more; stream_engine_base.cpp: _input_stopped, !_io_error).
            (zmq.LINGER, 0), (zmq.SNDHWM, link.ROOM), (zmq.RCVHWM, 0),
            (zmq.MAXMSGSIZE, protocol.MAX_BYTES),
            (zmq.RECONNECT_IVL, 100), (zmq.RECONNECT_IVL_MAX, 0),
            (zmq.HEARTBEAT_IVL, HEARTBEAT), (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT),
        ):  # fmt: skip
            self.socket.set(option, value)
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self.monitor.set(zmq.LINGER, 0)
        self.endpoint, self.patience = os.environ["CKPTD_ENDPOINT"], ANEW
        self.socket.connect(self.endpoint)
        self.poller = zmq.Poller()
        for source in (self.socket, self.monitor, state.reader):
            self.poller.register(source, zmq.POLLIN)

    def turn(self) -> None:
        """Do what there is to do, then sleep until there is more."""
        self._deliver()
        self._drain()
        now = monotonic()
        times = [self.ear.tick(now)]
        if self.state.was_up and not self.state.up:
            if now < self.state.dropped + link.PATIENCE:
                times.append(self.state.dropped + link.PATIENCE)
            times.append(self._connect_anew(now))
        left = min((max(0.0, time - now) for time in times if time is not None), default=None)
        full = self.state.up and (self.state.queue or not self.greeted)
        self.poller.modify(self.socket, self.zmq.POLLIN | (self.zmq.POLLOUT if full else 0))
        ready = dict(self.poller.poll(None if left is None else int(left * 1000) + 1))
        if self.state.reader in ready:
            self.ear.heard(os.read(self.state.reader, 4096))
        if self.monitor in ready:
            self._watch()
        if ready.get(self.socket, 0) & self.zmq.POLLIN:
            self._receive()

    def _connect_anew(self, now: float) -> float:
        """Begin again, if it is time to; when it is the next time."""
        if now >= self.state.dropped + self.patience:
            self.patience = 4 * self.patience
            self.socket.disconnect(self.endpoint)
            self.socket.connect(self.endpoint)
        return self.state.dropped + self.patience

    def _watch(self) -> None:
        """Follow the connection."""
        state = self.state
        for event in self._pending(self._event):
            if event == self.zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.greeted = False  # a new supervisor at the same place must learn who we are
                state.up = state.was_up = True
                self.patience = ANEW
            else:
                state.up, state.dropped = False, monotonic()
        self._ring()

    def _receive(self) -> None:
        for data in self._pending(self._frame):
            try:
                self._take(self.protocol.unpack(data))
            except self.protocol.ProtocolError:
                self.state.nonsense += 1

    def _event(self) -> int:
        return int.from_bytes(self.monitor.recv_multipart(self.zmq.NOBLOCK)[0][:2], sys.byteorder)

    def _frame(self) -> bytes:
        # All frames of a message: to give up a connection in the midst of one would be the end of the process.
        frames: list[bytes] = self.socket.recv_multipart(self.zmq.NOBLOCK)
        return frames[0] if len(frames) == 1 else b""

    def _pending(self, receive: Callable[[], T]) -> list[T]:
        """What can be received at once; some of it only if it is much, so that all get their turn."""
        got: list[T] = []
        try:
            while len(got) < HEARD:
                got.append(receive())
        except self.zmq.Again:
            pass
        return got

    def _take(self, message: Message) -> None:
        protocol, state = self.protocol, self.state
        if isinstance(message, protocol.Dump):
            if message.dump != self.asked:
                self.asked, self.told, state.dump = message.dump, None, message
            elif self.told is not None:  # it was lost on its way
                link.send(self.told)
        elif isinstance(message, protocol.Welcome):
            state.greeting = message
        elif isinstance(message, (protocol.Saved, protocol.Unsaved)):
            while len(state.answers) > link.ROOM:  # nobody waited for them
                state.answers.pop(next(iter(state.answers)), None)
            state.answers[message.dump] = message
            if message.dump == self.asked:
                self.asked = ""
            self._ring()
            if state.engine is not None:
                state.engine.answered(message)
        else:
            state.nonsense += 1
            return
        self.ear.told(message)
        self._deliver()

    def _deliver(self) -> None:
        """Give the engine what is for it, if it is there already."""
        state = self.state
        if state.engine is not None and state.greeting is not None:
            greeting, state.greeting = state.greeting, None
            state.engine.welcome(greeting)
        if state.dump is None or (state.engine is None and not state.no_engine):
            return
        dump, state.dump = state.dump, None
        why = state.no_engine
        if state.engine is not None:
            try:
                state.engine.request(dump)
                return
            except Exception as error:
                why = f"the agent failed: {type(error).__name__}: {error}"
        link.send(self.protocol.Undumped(dump.dump, why))

    def _drain(self) -> None:
        """Send what waits, Hello first."""
        state = self.state
        try:
            if state.up and not self.greeted:
                self.socket.send(self.hello, self.zmq.NOBLOCK)
                self.greeted = True
                state.sent = monotonic()
            while state.up and state.queue:
                message = state.queue.popleft()
                try:
                    self.socket.send(self.protocol.pack_inward(message), self.zmq.NOBLOCK)
                    if not link.is_progress(message):
                        state.sent = monotonic()
                    self.ear.told(message)
                    if isinstance(message, (self.protocol.Dumped, self.protocol.Undumped)):
                        self.told = message if message.dump == self.asked else None
                except self.zmq.Again:
                    state.queue.appendleft(message)
                    raise
                except (self.protocol.ProtocolError, TypeError, ValueError) as error:
                    _tell(error)  # it would not get better by trying again
        except self.zmq.Again:
            return

    def _ring(self) -> None:
        if self.state.bell.locked():
            self.state.bell.release()

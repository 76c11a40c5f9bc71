"""The supervisor's end of the sockets: a ROUTER that nonsense can't break and a slow peer can't block."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable

import zmq

from ckptd import control, protocol
from ckptd.daemon.crowd import Crowd
from ckptd.daemon.loop import Loop
from ckptd.daemon.openfiles import raise_limit
from ckptd.daemon.places import Place
from ckptd.errors import CkptdError, ProtocolError

OUTWARD = 32
"""Messages queued for a peer that doesn't read; what comes then is dropped."""
INWARD = 4
"""Messages of a peer that wait for us; one that sends more waits on its side."""
GREETING = 5000
"""Milliseconds in which whoever connects has to have said who it is."""
ASK = 64
"""Letters of a request's id."""
BACKLOG = 128


class Server:
    """One ROUTER on ipc. Only the thread that made it may use it.

    The listening socket is ours, so that the ROUTER can be made anew without anybody missing it.
    """

    def __init__(self, place: Place, usual: int = 0) -> None:
        """Bind. ``usual``: so many connections are there as long as we are. Raises CkptdError."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            place.socket.unlink(missing_ok=True)
            made.bind(str(place.socket))
            place.socket.chmod(stat.S_IRUSR | stat.S_IWUSR)
            made.listen(BACKLOG)
        except OSError as error:
            made.close()
            raise CkptdError(f"can't listen on {place.socket}: {os.strerror(error.errno or 0)}") from error
        self._set_up(made, place.endpoint, usual)

    def _set_up(self, listening: socket.socket, endpoint: str, usual: int = 0) -> None:
        """Raises CkptdError."""
        self._usual = usual
        self.nonsense = 0
        """Frames that were not messages of ours."""
        self.undelivered = 0
        """Messages that a peer was gone for, or didn't take."""
        self.renewed = 0
        """How often all connections were ended because they were too many, or what they had sent too much."""
        self.context = zmq.Context()
        self._endpoint = endpoint
        self._listening = listening
        listening.setblocking(False)
        self._serving: tuple[Loop, Callable[[], None]] | None = None
        raise_limit()
        try:
            self._open()
        except zmq.ZMQError as error:
            self.close()
            raise CkptdError(f"can't listen on {endpoint}: {os.strerror(error.errno or 0)}") from error

    def _open(self, floor: int = 0) -> None:
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.LINGER, 0), (zmq.SNDHWM, OUTWARD), (zmq.RCVHWM, INWARD), (zmq.ROUTER_MANDATORY, 1),
            (zmq.MAXMSGSIZE, protocol.MAX_INWARD),  # a peer that sends more is cut off
            (zmq.HANDSHAKE_IVL, GREETING), (zmq.USE_FD, os.dup(self._listening.fileno())), *self.options(),
        ):  # fmt: skip
            self.socket.setsockopt(option, value)
        self._crowd = Crowd(self.context, self.socket, self._usual, floor)
        self.socket.bind(self._endpoint)

    def options(self) -> tuple[tuple[int, int | bytes], ...]:
        """What only this socket has: a second lock behind the folder's mode. Root can do anything anyway."""
        return (zmq.IPC_FILTER_UID, os.geteuid()), (zmq.IPC_FILTER_UID, 0)

    def check(self, request: control.Request) -> None:
        """Whether whoever can open this socket may ask for that. Raises UsageError."""

    def serve(self, loop: Loop, callback: Callable[[], None]) -> None:
        """Call back whenever there is something to receive; and see that there are not too many connections."""
        self._serving = (loop, callback)
        loop.watch(self.socket, callback)
        loop.watch(self._crowd.socket, self._look)
        self._look()

    def _look(self) -> None:
        """Connections have come or gone, or it is time to look at what they take."""
        if self._serving is None:
            return
        if self._crowd.too_much():
            self._renew(*self._serving)
        wait = self._crowd.look_again
        if wait is not None:
            self._serving[0].after("crowd", wait, self._look)

    def _renew(self, loop: Loop, callback: Callable[[], None]) -> None:
        """End all connections: ZeroMQ aborts the process where there is no descriptor left for one more.

        Agents and clients connect again by themselves; who did nothing but hold a connection doesn't.
        """
        callback()  # what has arrived is not lost
        self.renewed += 1
        loop.forget(self.socket)
        loop.forget(self._crowd.socket)
        floor = self._crowd.close(self.socket)
        self.socket.close(0)
        self._open(floor)
        loop.watch(self.socket, callback)
        loop.watch(self._crowd.socket, self._look)

    def receive(self) -> tuple[bytes, protocol.Message] | None:
        """The next message and its peer, without waiting; None when there is none."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return None
            if len(frames) == 2:
                try:
                    message = protocol.unpack(frames[1].bytes)
                except ProtocolError:
                    message = None
                if message is not None and _is_meant(message, frames[1]):
                    return frames[0].bytes, message
            self.nonsense += 1

    def send(self, peer: bytes, message: protocol.Message) -> bool:
        """Send without waiting; False if the peer is gone, doesn't read, or the message can't be told."""
        try:
            self.socket.send_multipart([peer, protocol.pack(message)], zmq.NOBLOCK)
        except (zmq.ZMQError, ProtocolError):
            self.undelivered += 1
            return False
        return True

    def close(self) -> None:
        """Close the socket; what is not yet sent is dropped."""
        self.context.destroy(linger=0)
        self._listening.close()


def _is_meant(message: protocol.Message, frame: zmq.Frame) -> bool:
    """Whether it is from whom it says it is, and can be answered."""
    if isinstance(message, protocol.Hello):
        return message.pid == _process_of(frame)
    return not isinstance(message, control.Request) or len(message.ask) <= ASK


def _process_of(frame: zmq.Frame) -> int | None:
    """The process that has connected, as the kernel says: 'localhost:UID:GID:PID'."""
    try:
        pid = str(frame.get("Peer-Address")).rpartition(":")[2]
    except zmq.ZMQError:
        return None
    return int(pid) if pid.isdigit() else None

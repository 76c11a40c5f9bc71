"""The supervisor's end of the sockets: a ROUTER that nonsense can't break and a slow peer can't block."""

from __future__ import annotations

import os
import stat

import zmq

from ckptd import protocol
from ckptd.daemon.places import Place
from ckptd.errors import CkptdError, ProtocolError

HIGH_WATER = 1000
"""Messages queued per peer and direction; a peer that sends more than we read waits on its side."""


class Server:
    """One ROUTER on ipc. Only the thread that made it may use it."""

    def __init__(self, place: Place) -> None:
        """Bind. Raises CkptdError."""
        self.nonsense = 0
        """Frames that were not messages of ours."""
        self.undelivered = 0
        """Messages that a peer was gone for, or didn't take."""
        self.context = zmq.Context()
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        self.socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        self.socket.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_BYTES)  # a peer that sends more is cut off
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        try:
            self.socket.bind(place.endpoint)
            place.socket.chmod(stat.S_IRUSR | stat.S_IWUSR)
        except (zmq.ZMQError, OSError) as error:
            self.close()
            raise CkptdError(f"can't listen on {place.socket}: {os.strerror(error.errno or 0)}") from error

    def receive(self) -> tuple[bytes, protocol.Message] | None:
        """The next message and its peer, without waiting; None when there is none."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            if len(frames) != 2:
                self.nonsense += 1
                continue
            try:
                return frames[0], protocol.unpack(frames[1])
            except ProtocolError:
                self.nonsense += 1

    def send(self, peer: bytes, message: protocol.Message) -> bool:
        """Send without waiting; False if the peer is gone or doesn't read."""
        try:
            self.socket.send_multipart([peer, protocol.pack(message)], zmq.NOBLOCK)
        except zmq.ZMQError:
            self.undelivered += 1
            return False
        return True

    def close(self) -> None:
        """Close the socket; what is not yet sent is dropped."""
        self.context.destroy(linger=0)

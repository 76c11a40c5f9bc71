"""The side of a user's command that asks: one question to a supervisor or the daemon, and its answer."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from typing import Any

import zmq

from ckptd import control, errors, protocol
from ckptd.errors import CkptdError, NoDaemonError, ProtocolError

PATIENCE = 5.0
"""Seconds in which a supervisor that lives answers what it can answer at once."""
AGAIN = 0.5
"""Seconds without an answer after which what changes nothing is asked again."""
_ERRORS = {
    kind.status: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, CkptdError) and kind is not CkptdError
}


def new_ask() -> str:
    """An id for a request."""
    return os.urandom(6).hex()


class Client:
    """A connection to one socket. Use as a context manager."""

    def __init__(
        self, endpoint: str, who: str, pid: int = 0, curve: tuple[bytes, bytes, bytes] | None = None
    ) -> None:
        """``who``: as the tail of a sentence that begins with 'nobody answers for'; ``pid``: its process, if known;
        ``curve``: our public key, our secret one, and the other side's public one, on TCP.

        Raises NoDaemonError: that process has ended.
        """
        self._who = who
        try:
            self._ended = os.pidfd_open(pid) if pid else -1
        except OSError:
            raise self._nobody() from None
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_BYTES)
        if curve is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey, self._socket.curve_serverkey = curve
        self._socket.connect(endpoint)

    def ask(self, request: control.Request, patience: float = PATIENCE) -> dict[str, Any]:
        """The facts of the answer. Raises the CkptdError that was answered, or NoDaemonError if nothing was."""
        end = time.monotonic() + patience
        while True:
            self.send(request)
            left = end - time.monotonic()
            # Whoever is overrun ends all connections: what changes nothing is asked again.
            again = isinstance(request, control.Look) and left > AGAIN
            for message in self.hear(AGAIN if again else left):
                if isinstance(message, control.Reply) and message.ask == request.ask:
                    if message.status:
                        raise _ERRORS.get(message.status, CkptdError)(message.text)
                    return {**message.facts, "text": message.text} if message.text else message.facts
            if not again or self._has_ended():
                raise self._nobody()

    def _has_ended(self) -> bool:
        return self._ended >= 0 and bool(select.select([self._ended], [], [], 0)[0])

    def _nobody(self) -> NoDaemonError:
        return NoDaemonError(
            f"nobody answers for {self._who}: it may just have ended; ckptd ps shows the jobs"
        )

    def send(self, request: control.Request) -> None:
        """Send a request whose answers ``hear`` gives."""
        try:
            self._socket.send(protocol.pack(request), zmq.NOBLOCK)
        except zmq.Again:
            return  # the other side has turned us away: nobody answers

    def hear(self, patience: float) -> Iterator[protocol.Message]:
        """Messages as they come, for ``patience`` seconds, or until its process has ended."""
        end = time.monotonic() + patience
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        if self._ended >= 0:
            poller.register(self._ended, zmq.POLLIN)
        while (left := end - time.monotonic()) > 0:
            ready = dict(poller.poll(max(1, int(left * 1000))))
            if self._socket not in ready:
                return
            try:
                yield protocol.unpack(self._socket.recv(zmq.NOBLOCK))
            except (ProtocolError, zmq.Again):
                continue

    def close(self) -> None:
        """Close the connection."""
        self._context.destroy(linger=0)
        if self._ended >= 0:
            os.close(self._ended)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

"""The daemon's socket for other machines: TCP, only where it was asked for, and only for clients whose key it has."""

from __future__ import annotations

import socket
from pathlib import Path

import zmq
from zmq.utils import z85

from ckptd import control
from ckptd.client import Client
from ckptd.daemon.loop import Loop
from ckptd.daemon.server import BACKLOG, Server
from ckptd.errors import CkptdError, UsageError
from ckptd.host import keys

ZAP = "inproc://zeromq.zap.01"
"""Where ZeroMQ asks whether somebody may come in (RFC 27)."""
DOMAIN = b"ckptd"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of 'tcp://HOST:PORT'. Raises UsageError."""
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{address!r} is no address: write tcp://HOST:PORT")
    return host.strip("[]"), int(port)


class FarServer(Server):
    """One ROUTER on TCP with CURVE. Whoever has no key of ours gets no further than the handshake."""

    def __init__(self, address: str, folder: Path | None) -> None:
        """Bind. ``folder``: of the daemon's keys. Raises UsageError (no keys), CkptdError (can't listen there)."""
        host, port = split_address(address)
        if folder is None:
            raise UsageError(
                f"{address} can be reached from other machines: --keys FOLDER says who may (ckptd daemon keys)"
            )
        self._folder, self._pair = folder, keys.load_pair(folder, keys.DAEMON)
        try:
            made = socket.create_server((host, port), family=_family(host), backlog=BACKLOG)
        except (OSError, OverflowError) as error:
            raise CkptdError(f"can't listen on {address}: {error}") from error
        self.address = f"tcp://{f'[{host}]' if ':' in host else host}:{made.getsockname()[1]}"
        self._door: zmq.Socket[bytes] | None = None
        self._set_up(made, self.address)

    def _open(self, floor: int = 0) -> None:
        if self._door is None:
            self._door = self.context.socket(zmq.REP)
            self._door.setsockopt(zmq.LINGER, 0)
            self._door.bind(ZAP)
        super()._open(floor)

    def options(self) -> tuple[tuple[int, int | bytes], ...]:
        """What only this socket has."""
        return (
            (zmq.CURVE_SERVER, 1), (zmq.CURVE_SECRETKEY, self._pair.secret), (zmq.ZAP_DOMAIN, DOMAIN),
            (zmq.HEARTBEAT_IVL, 30_000), (zmq.HEARTBEAT_TIMEOUT, 30_000),
        )  # fmt: skip

    def admit(self, loop: Loop) -> None:
        """Answer, on the loop, who may come in."""
        if self._door is not None:
            loop.watch(self._door, self._answer_door)

    def _answer_door(self) -> None:
        if self._door is None:
            return
        try:
            asked = self._door.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        known = len(asked) == 7 and asked[2] == DOMAIN and asked[5] == b"CURVE" and len(asked[6]) == 32
        allowed = known and keys.is_let_in(self._folder, z85.encode(asked[6]))
        status, text = (b"200", b"OK") if allowed else (b"400", b"unknown key")
        self._door.send_multipart(
            [b"1.0", asked[1] if len(asked) > 1 else b"", status, text, b"", b""], zmq.NOBLOCK
        )

    def check(self, request: control.Request) -> None:
        """Raises UsageError: that can't be asked from another machine."""
        if not isinstance(request, control.Look | control.Tell | control.Start):
            raise UsageError("that can't be asked from another machine")
        if isinstance(request, control.Tell) and request.deadline is not None:
            raise UsageError("a deadline can't be told from another machine: its clock is another")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def reach_far(address: str, folder: Path | None) -> Client:
    """A connection to the daemon at an address. Raises UsageError: no keys."""
    split_address(address)
    if folder is None:
        raise UsageError(
            f"{address} asks for keys: name the folder that ckptd daemon keys --client has made with --keys"
        )
    pair, daemon = keys.load_pair(folder, keys.CLIENT), keys.load_daemon_key(folder)
    return Client(
        address,
        f"the daemon at {address} (or it doesn't know this key)",
        curve=(pair.public, pair.secret, daemon),
    )

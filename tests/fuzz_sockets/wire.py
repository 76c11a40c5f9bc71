"""ZeroMQ's protocol by hand (ZMTP 3.0, RFC 23), so that it can be spoken wrongly."""

from __future__ import annotations

import socket
import struct

MORE, LONG, COMMAND = 1, 2, 4


def greeting(mechanism: bytes = b"NULL", version: bytes = b"\x03\x00") -> bytes:
    """The 64 bytes that each side begins with."""
    return b"\xff" + bytes(8) + b"\x7f" + version + mechanism.ljust(20, b"\0")[:20] + b"\0" + bytes(31)


def frame(body: bytes, flags: int = 0) -> bytes:
    """One frame."""
    if len(body) < 256 and not flags & LONG:
        return struct.pack(">BB", flags, len(body)) + body
    return struct.pack(">BQ", flags | LONG, len(body)) + body


def ready(identity: bytes = b"", kind: bytes = b"DEALER") -> bytes:
    """The command that ends the handshake."""
    pairs = _pair(b"Socket-Type", kind) + _pair(b"Identity", identity)
    return frame(b"\x05READY" + pairs, COMMAND)


def _pair(name: bytes, value: bytes) -> bytes:
    return struct.pack(">B", len(name)) + name + struct.pack(">I", len(value)) + value


def ping() -> bytes:
    """Asks the other side for a word."""
    return frame(b"\x04PING\x00\x0a", COMMAND)


class Raw:
    """A connection without ZeroMQ. What the other side doesn't take, or cuts, is no error here."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(0.05)
        self.open = True
        try:
            self.socket.connect(path)
        except OSError:
            self.close()

    def send(self, data: bytes) -> bool:
        """Whether all of it was taken."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def shake_hands(self, identity: bytes = b"") -> bool:
        """Whether it is a connection of ZeroMQ's now, as far as we are concerned."""
        return self.send(greeting() + ready(identity))

    def close(self) -> None:
        """End it."""
        self.open = False
        self.socket.close()

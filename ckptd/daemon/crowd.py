"""How many are connected to a socket, and whether they take more than they may."""

from __future__ import annotations

import ctypes
from pathlib import Path

import zmq

MOST = 512
"""Connections. A job has one or two, and a command of the user's one for as long as it asks."""
ROOM = 128 << 20
"""Bytes by which this process may grow while there are more. ZeroMQ keeps a message of many frames until the last has
come, and has no bound for that."""
SLACK = 16 << 20
"""Bytes that are free and need not be given back."""
LOOK = 0.1
"""Seconds between looks at that."""
LOOKS = 10
"""So many more when they have gone: ZeroMQ frees what they had a little later."""
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's


class Crowd:
    """Follows the connections of one socket. To be made before it is bound."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], watched: zmq.Socket[bytes], usual: int, floor: int = 0
    ) -> None:
        """``usual``: up to so many, nobody looks at what they take; ``floor``: bytes before there were more."""
        self.present = 0
        self._usual = usual
        self._looks = 0
        self._floor = self._kept = self._least = floor or anonymous_bytes()
        at = f"inproc://crowd-{id(self)}"
        watched.monitor(at, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self.socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, 0)  # ZeroMQ's own thread would wait for us to read
        self.socket.connect(at)

    def too_much(self) -> bool:
        """Whether it can't go on like this."""
        self._count()
        if self.present > MOST:
            return True
        if self.present <= self._usual:
            self._calm_down()
            return False
        self._looks = LOOKS
        taken = anonymous_bytes()
        if taken - self._kept > SLACK:
            give_back()  # what is free already is no reason
            taken = self._kept = anonymous_bytes()
        return taken - self._floor > ROOM

    def _calm_down(self) -> None:
        """They have gone."""
        self._looks -= self._looks > 0
        if not self._looks:
            if anonymous_bytes() - self._least > SLACK:
                give_back()
            self._floor = self._kept = anonymous_bytes()
            self._least = min(self._least, self._floor)

    @property
    def look_again(self) -> float | None:
        """In how many seconds to ask again though nobody has come; None: no need to."""
        return LOOK if self._looks else None

    def _count(self) -> None:
        while True:
            try:
                kind, _ = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            event = int.from_bytes(kind[:2], "little")
            self.present += 1 if event == zmq.EVENT_ACCEPTED else -1

    def close(self, watched: zmq.Socket[bytes]) -> int:
        """Follow no longer; returns the floor."""
        watched.disable_monitor()
        self.socket.close(0)
        return self._floor


def give_back() -> None:
    """Memory that is free in this process goes to the system."""
    if _trim is not None:
        _trim(0)


def anonymous_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Memory of a process that is no file's; 0 where the kernel doesn't say."""
    try:
        text = status.read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0

"""A supervisor's socket, and nothing else of it: for tests of the agent's side of the line."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TypeVar

import zmq

from ckptd.protocol import Hello, Message, Welcome, pack, unpack

M = TypeVar("M", bound=Message)


class Router:
    """Binds in a folder of its own; hears messages when asked to, and answers the one that spoke last."""

    def __init__(self, folder: Path | None = None) -> None:
        self._own = None if folder else Path(tempfile.mkdtemp(prefix="ckptd-test-"))
        self.endpoint = f"ipc://{folder or self._own}/socket"
        self.heard: list[Message] = []
        self.peer = b""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(self.endpoint)

    def expect(self, kind: type[M], seconds: float = 20.0) -> M:
        """The next message of this kind; AssertionError if none comes in time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            message = self.hear(left)
            if isinstance(message, kind):
                return message
        raise AssertionError(f"no {kind.__name__} in {seconds} s; heard {self.heard}")

    def hear(self, seconds: float) -> Message | None:
        """The next message, if one comes in time."""
        if not self._socket.poll(int(seconds * 1000) + 1):
            return None
        self.peer, data = self._socket.recv_multipart()
        message = unpack(data)
        self.heard.append(message)
        return message

    def send(self, message: Message | bytes) -> None:
        data = message if isinstance(message, bytes) else pack(message)
        self._socket.send_multipart([self.peer, data])

    def close(self) -> None:
        self._context.destroy(0)
        if self._own:
            shutil.rmtree(self._own)

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def main() -> None:
    """As a process of its own, to be stopped and killed: prints what it hears, welcomes, answers nothing."""
    router = Router(Path(sys.argv[1]))
    print("bound", flush=True)
    while True:
        message = router.hear(60.0)
        print(type(message).__name__, flush=True)
        if isinstance(message, Hello):
            router.send(Welcome())


if __name__ == "__main__":
    main()

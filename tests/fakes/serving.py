"""What all fakes share: a server on loopback that notes what it was asked, and can misbehave on demand."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TROUBLES = ("slow", "hang", "trickle", "500", "half", "drop", "redirect", "huge", "garbage")
"""slow: SLOW seconds late. hang: never. trickle: a byte now and then, for ever. half: half of the body, and the end.
drop: closed without a word. redirect: to itself. huge: 4 MiB. garbage: no HTTP."""
SLOW = 1.0


@dataclass(frozen=True)
class Asked:
    """One request."""

    when: float
    """time.monotonic()"""
    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header, as often as it was sent."""
        return self.headers.get_all(name) or []


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int = 200
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Fake:
    """A service on a port of its own; a context manager. ``reply`` is what it does when it behaves."""

    def __init__(self, port: int = 0) -> None:
        self.asked: list[Asked] = []
        self.trouble = ""
        """One of TROUBLES; '' for none."""
        self.troubled = ""
        """Only paths that hold this text are affected."""
        self.skew: float | None = 0.0
        """Seconds by which its clock is ahead of ours; None: it tells no time."""
        self.over = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The base of its URLs."""
        return f"http://{self.host}"

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def now(self) -> float:
        """Unix seconds by the service's clock."""
        return time.time() + (self.skew or 0.0)

    def paths(self) -> list[str]:
        """What was asked, in order: 'GET /path'."""
        return [f"{asked.method} {asked.path}" for asked in [*self.asked]]

    def reply(self, asked: Asked) -> Reply:
        """The answer of the real one; may take its time, but not beyond ``over``."""
        raise NotImplementedError

    def trouble_with(self, asked: Asked) -> str:
        """What goes wrong with this request."""
        return self.trouble if self.troubled in asked.path else ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    fake: Fake

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is nothing to tell of."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Tests look at ``asked``."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """By the fake's own clock."""
        return formatdate(self.server.fake.now(), usegmt=True)

    def handle_any(self) -> None:
        """Any method."""
        fake = self.server.fake
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(time.monotonic(), self.command, parts.path, query, self.headers, body)
        fake.asked.append(asked)
        self.close_connection = True
        trouble = fake.trouble_with(asked)
        if trouble in ("hang", "drop", "garbage"):
            if trouble == "hang":
                fake.over.wait()
            if trouble == "garbage":
                self.wfile.write(b"\x16\x03\x01 nothing of the kind\r\n\r\n")
            return
        if trouble == "slow":
            fake.over.wait(SLOW)
        self._send(_spoilt(trouble, asked) or fake.reply(asked), trouble)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def _send(self, reply: Reply, trouble: str) -> None:
        fake, body = self.server.fake, reply.text.encode()
        self.send_response_only(reply.status)
        if fake.skew is not None:
            self.send_header("Date", self.date_time_string())
        self.send_header("Content-Length", str(len(body) + (1000 if trouble in ("half", "trickle") else 0)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if trouble == "half" else body)
        while trouble == "trickle" and not fake.over.wait(0.1):
            self.wfile.write(b" ")


def _spoilt(trouble: str, asked: Asked) -> Reply | None:
    if trouble == "500":
        return Reply(500, "Internal Server Error")
    if trouble == "redirect":
        return Reply(302, "", {"Location": asked.path})
    if trouble == "huge":
        return Reply(200, " " * (4 << 20))
    return None


def by_hand(
    make: Callable[[int], Fake], variable: str, commands: Callable[[Fake], dict[str, Callable[[], object]]]
) -> None:
    """Serve until the end of standard input; each line is one of ``commands``, or 'trouble WORD'.

    The command named 'mark' is also what --after does.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--after", type=float, help="seconds until the notice comes by itself")
    options = parser.parse_args()
    with make(options.port) as fake:
        known = commands(fake)
        value = fake.host if variable.endswith("_HOST") else fake.url
        print(f"{variable}={value}", flush=True)
        print(f"lines: {', '.join(known)}, trouble {'|'.join(TROUBLES)}|none", file=sys.stderr, flush=True)
        if options.after is not None:
            timer = threading.Timer(options.after, known["mark"])
            timer.daemon = True
            timer.start()
        for line in sys.stdin:
            words = line.split()
            if words[:1] == ["trouble"] and len(words) == 2 and words[1] in (*TROUBLES, "none"):
                fake.trouble = words[1].replace("none", "")
            elif len(words) == 1 and words[0] in known:
                known[words[0]]()
            else:
                print("?", file=sys.stderr, flush=True)

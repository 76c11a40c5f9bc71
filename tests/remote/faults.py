"""A proxy between a client and an S3 server that does what networks and servers do."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECE = "/objects/"


class FaultyProxy:
    """Forwards HTTP to a server. ``fault`` decides what becomes of a request: one of the words below, '' for nothing.

    refuse    the connection is closed before anything is answered
    cut       the same, after half of the body has gone on to nobody; of an answer, half is sent
    spoil     one bit of the body, of the request or else of the answer, is another
    full      507 Insufficient Storage
    error     500
    slow      it takes a while
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.fault: Callable[[str, str], str] = lambda method, path: ""
        self.delay = 0.3
        self.seen: list[tuple[str, str]] = []
        """(method, path) of all requests."""
        self.done: list[tuple[str, str, int]] = []
        """(method, path, length of the body) of those that reached the server as they were."""
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def fail(self, how: str, *, method: str = "PUT", where: str = PIECE, times: int = 10**9) -> None:
        """From now on, the next so many requests of a kind go wrong."""
        left = [times]

        def fault(verb: str, path: str) -> str:
            if verb == method and where in path and left[0] > 0:
                left[0] -= 1
                return how
            return ""

        self.fault = fault

    def heal(self) -> None:
        self.fault = lambda method, path: ""

    def sent(self, method: str = "PUT", where: str = PIECE) -> list[str]:
        """Paths of such requests that were carried out."""
        return [path for verb, path, _ in list(self.done) if verb == method and where in path]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            fault = proxy.fault(self.command, self.path)
            proxy.seen.append((self.command, self.path))
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length // 2 if fault == "cut" and length else length)
            if fault == "slow":
                time.sleep(proxy.delay)
            if fault == "refuse" or (fault == "cut" and length):
                self.drop()
                return
            if fault in ("full", "error"):
                status, code = (507, "InsufficientStorage") if fault == "full" else (500, "InternalError")
                text = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
                self.answer(status, {"Content-Type": "application/xml"}, text, fault)
                return
            if fault == "spoil" and body:
                body = body[:-1] + bytes([body[-1] ^ 1])
                fault = ""
            self.answer(*self.ask(body), fault)
            proxy.done.append((self.command, self.path, len(body)))

        def ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(*proxy.server, timeout=20)
            try:
                connection.request(self.command, self.path, body or None, dict(self.headers.items()))
                response = connection.getresponse()
                return response.status, dict(response.getheaders()), response.read()
            finally:
                connection.close()

        def answer(self, status: int, headers: dict[str, str], data: bytes, fault: str) -> None:
            if fault == "spoil" and data:
                data = data[:-1] + bytes([data[-1] ^ 1])
            try:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in (
                        "content-length",
                        "transfer-encoding",
                        "connection",
                        "date",
                        "server",
                    ):
                        self.send_header(name, value)
                length = int(headers.get("Content-Length", 0)) if self.command == "HEAD" else len(data)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
                if fault == "cut":
                    self.drop()
            except OSError:
                self.close_connection = True  # the client has gone away

        def drop(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        def log_message(self, *args: Any) -> None:
            return

    return Handler

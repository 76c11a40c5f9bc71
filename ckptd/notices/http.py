"""Asks a metadata service: one request a connection, with a bound on time and size, straight to the address.

No proxy is asked, whatever the environment says: such an address means the machine itself. No redirect is
followed.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from ckptd.errors import UsageError
from ckptd.notices.clock import unix_time
from ckptd.notices.event import Over, Unheard

LONGEST = 1 << 20
"""Bytes of a body at most; real ones have a few hundred."""


class NoAnswer(Unheard):
    """There is no answer, or none that can be used."""


class TooLate(NoAnswer):
    """Nothing came, or not all of it, within the time."""


@dataclass(frozen=True)
class Answer:
    """What a service said."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    clock: float
    """Unix seconds when it was given: by the server's clock where it tells it, else by ours."""
    heard: float
    """time.monotonic() at that moment."""

    def text(self) -> str:
        """The body without blanks around it."""
        return self.body.decode("utf-8", "replace").strip()

    def json(self) -> Any:
        """The body's value; raises NoAnswer."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise NoAnswer(f"what should be JSON is {self.text()[:60]!r}") from None


class Service:
    """Where a metadata service is."""

    def __init__(self, base: str, variable: str = "") -> None:
        """``base``: 'http://host:port' or 'host:port'; UsageError, naming the ``variable`` that it is from."""
        whole = base if "://" in base else f"http://{base}"
        try:
            parts = urlsplit(whole)
            port = parts.port or 80
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"{variable or 'address'}={base}: not an address, as in http://127.0.0.1:1338")
        self.base = f"http://{parts.netloc}{parts.path.rstrip('/')}"
        self._host, self._port, self._path = parts.hostname, port, parts.path.rstrip("/")

    def ask(
        self,
        path: str,
        over: Over,
        seconds: float,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Any answer, whatever its status; raises NoAnswer where there is none within ``seconds``, or it is over."""
        connection = HTTPConnection(self._host, self._port)
        try:
            connection.sock = _reach(self._host, self._port, time.monotonic() + seconds, over)
            connection.request(
                method, self._path + path, body=body, headers={"Connection": "close", **(headers or {})}
            )
            return _answer(connection)
        except TimeoutError:
            raise TooLate(f"{self.base} doesn't answer within {seconds:g} s") from None
        except (OSError, HTTPException) as error:
            raise NoAnswer(f"{self.base}: {_why(error)}") from None
        finally:
            connection.close()


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return f"no answer that can be understood ({type(error).__name__})"


def _answer(connection: HTTPConnection) -> Answer:
    response = connection.getresponse()
    with response:
        body = response.read(LONGEST + 1)
        missing, heard = response.length, time.monotonic()
    headers = {name.lower(): value for name, value in response.headers.items()}
    if len(body) > LONGEST:
        raise OSError(f"it answers with more than {LONGEST} bytes")
    if missing:
        raise OSError("its answer breaks off")
    clock = unix_time(headers.get("date", ""))
    return Answer(response.status, headers, body, time.time() if clock is None else clock, heard)


class _Wire(socket.socket):
    """A connection whose waits share one deadline, and end when it is over.

    A time-out for each read would let an answer that trickles last for ever.
    """

    until: float
    over: Over

    def wait(self, event: int) -> None:
        """Until it can be read or written; raises TimeoutError, InterruptedError."""
        poll = select.poll()
        poll.register(self.fileno(), event)
        poll.register(self.over.fileno(), select.POLLIN)
        left = self.until - time.monotonic()
        ready = dict(poll.poll(left * 1000)) if left > 0 else {}
        if self.over.is_set():
            raise InterruptedError("it is over")
        if not ready:
            raise TimeoutError

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Some bytes; raises TimeoutError, InterruptedError."""
        while True:
            self.wait(select.POLLIN)
            try:
                return super().recv_into(buffer, nbytes, flags)
            except BlockingIOError:
                continue


def _reach(host: str, port: int, until: float, over: Over) -> _Wire:
    """A connection; raises OSError."""
    last: OSError = OSError(f"{host} has no address")
    for family, kind, proto, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        wire = _Wire(family, kind, proto)
        try:
            wire.until, wire.over = until, over
            wire.setblocking(False)
            try:
                wire.connect(address)
            except BlockingIOError:
                wire.wait(select.POLLOUT)
                number = wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    raise OSError(number, os.strerror(number)) from None
            return wire
        except OSError as error:
            wire.close()
            last = error
            if isinstance(error, TimeoutError | InterruptedError):
                break
        except BaseException:
            wire.close()
            raise
    raise last

"""The shape that Amazon's and Alibaba's services share: a token first, and 404 until there is something."""

from __future__ import annotations

import secrets
import threading
import time

from .serving import Asked, Fake, Reply


class TokenFake(Fake):
    """Values by path, for those who have a token."""

    token_header = ""
    ttl_header = ""

    def __init__(self, port: int = 0) -> None:
        self.values: dict[str, str] = {}
        """What stands under /latest/meta-data/."""
        self.optional = False
        """Whether a request without a token is answered (version 1)."""
        self.eats_tokens = False
        """The answer to PUT gets lost, as with a hop limit of 1 behind a bridge."""
        self.longest = 21600
        """Seconds for which tokens are good, at most."""
        self.given: list[str] = []
        self._until: dict[str, float] = {}
        self._guard = threading.Lock()
        super().__init__(port)

    def forget_tokens(self) -> None:
        """None that was given is known any more."""
        with self._guard:
            self._until.clear()

    def reply(self, asked: Asked) -> Reply:
        """401, 400, 403, 405, 404 as the real one."""
        if asked.path == "/latest/api/token":
            return self._token(asked) if asked.method == "PUT" else Reply(405)
        if asked.method not in ("GET", "HEAD"):
            return Reply(405)
        tokens = asked.all(self.token_header)
        if len(tokens) > 1 or not (self._is_good(tokens[0]) if tokens else self.optional):
            return Reply(401, "Unauthorized")
        value = self.values.get(asked.path.removeprefix("/latest/meta-data/"))
        return Reply(404, "Not Found") if value is None else Reply(200, value)

    def _token(self, asked: Asked) -> Reply:
        if self.eats_tokens:
            self.over.wait()
        if asked.all("X-Forwarded-For"):
            return Reply(403, "Forbidden")
        ttl = asked.all(self.ttl_header)
        if len(ttl) != 1 or not ttl[0].isdigit() or not 1 <= int(ttl[0]) <= 21600:
            return Reply(400, "Bad Request")
        seconds = min(int(ttl[0]), self.longest)
        token = secrets.token_urlsafe(40)
        with self._guard:
            self._until[token] = time.monotonic() + seconds
            self.given.append(token)
        return Reply(200, token, {self.ttl_header: str(seconds)})

    def _is_good(self, token: str) -> bool:
        with self._guard:
            return time.monotonic() < self._until.get(token, 0.0)

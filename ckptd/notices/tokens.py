"""Metadata services that want a token: Amazon's, version 2, and Alibaba's after its pattern.

Sources: AWS user guide, 'Use the Instance Metadata Service'; aws-node-termination-handler, pkg/ec2metadata
(its second try behind a 401 carried two token headers, this one never does); and its #406: with a hop limit
of 1, a container's PUT is answered, and the answer doesn't arrive.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ckptd.notices.event import Over
from ckptd.notices.http import Answer, NoAnswer, Service, TooLate

PATIENCE = 2.0
"""Seconds for one answer."""
TOKEN_PATIENCE = 1.0
"""Seconds for a token: the service is on this very host, and where its answer is lost it is lost for good."""
TOKEN_SECONDS = 21600
"""For how long a token is asked; the longest there is."""
SPARE = 15.0
"""Seconds before its end at which a token is replaced."""
TOKENLESS = 60.0
"""Seconds without a token before one is asked for again, where none came and none was needed."""


@dataclass(frozen=True)
class Names:
    """What a service calls things."""

    service: str
    """'EC2's metadata service'."""
    token: str
    """The header that holds a token."""
    ttl: str
    """The header that holds its seconds."""
    lost: str
    """What is wrong, and the way out, where tokens don't arrive but are needed."""


class Guarded:
    """A service that is asked with a token, or without one where it gives none and wants none."""

    def __init__(self, service: Service, names: Names) -> None:
        self._service, self._names = service, names
        self._token, self._until = "", 0.0
        self._tokenless_until = 0.0

    def get(self, path: str, over: Over) -> Answer | None:
        """The answer; None for 404. Raises NoAnswer."""
        answer = self._get(path, over)
        if answer.status == 401 and self._token:
            self._until = 0.0
            answer = self._get(path, over)
        if answer.status == 200:
            return answer
        if answer.status == 404:
            return None
        if answer.status == 403:
            raise NoAnswer(
                f"{self._names.service} is switched off for this machine: it answers 403 to {path}"
            )
        raise NoAnswer(f"{self._names.service} answers {answer.status} to {path}")

    def _get(self, path: str, over: Over) -> Answer:
        lacking = (
            self._renew(over) if time.monotonic() >= max(self._until - SPARE, self._tokenless_until) else None
        )
        headers = {self._names.token: self._token} if self._token else {}
        answer = self._service.ask(path, over, PATIENCE, headers=headers)
        if answer.status == 401 and not self._token:
            self._tokenless_until = 0.0
            if lacking is None:  # it could do without until now
                return self._get(path, over)
            raise lacking
        if lacking is not None and answer.status in (200, 404):
            self._tokenless_until = time.monotonic() + TOKENLESS
        return answer

    def _renew(self, over: Over) -> NoAnswer | None:
        """Get a new token; what is wrong if there is none."""
        self._token, self._until = "", 0.0
        try:
            answer = self._service.ask(
                "/latest/api/token", over, TOKEN_PATIENCE, method="PUT", headers={self._names.ttl: str(TOKEN_SECONDS)}
            )  # fmt: skip
        except TooLate:
            return NoAnswer(self._names.lost)
        except NoAnswer as error:
            return error
        token = answer.text()
        if answer.status != 200 or not (token.isascii() and token.isprintable() and token):
            return NoAnswer(f"{self._names.service} gives no token: it answers {answer.status}")
        granted = answer.headers.get(self._names.ttl, "")
        self._token = token
        self._until = time.monotonic() + (int(granted) if granted.isdigit() else TOKEN_SECONDS)
        return None

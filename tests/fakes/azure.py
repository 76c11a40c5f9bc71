"""Azure's Scheduled Events."""

from __future__ import annotations

import json
import threading
from email.utils import formatdate
from typing import Any

from .serving import Asked, Fake, Reply, by_hand

EVENTS = "/metadata/scheduledevents"
NAME = "/metadata/instance/compute/name"
_VERSIONS = {
    EVENTS: ("2017-08-01", "2017-11-01", "2019-01-01", "2019-04-01", "2019-08-01", "2020-07-01"),
    NAME: ("2019-03-11", "2020-06-01", "2021-02-01"),
}


class FakeAzure(Fake):
    """A machine in an availability set."""

    def __init__(self, port: int = 0) -> None:
        self.name = "trainer_0"
        self.first = 0.0
        """Seconds that the first call takes, which switches the service on."""
        self.acknowledged: list[str] = []
        self._guard = threading.Lock()
        self._events: dict[str, dict[str, Any]] = {}
        self._incarnation = 1
        self._count = 0
        self._on = False
        super().__init__(port)

    def mark(self, seconds: float = 30.0, kind: str = "Preempt", resources: tuple[str, ...] = ()) -> str:
        """An event that begins in so many seconds, of this machine unless ``resources`` says else; its id."""
        with self._guard:
            self._count += 1
            number = f"602d9444-d2cd-49c7-8624-{self._count:012d}"
            self._events[number] = {
                "EventId": number, "EventType": kind, "ResourceType": "VirtualMachine",
                "Resources": [*(resources or (self.name,))], "EventStatus": "Scheduled",
                "NotBefore": formatdate(self.now() + seconds, usegmt=True), "Description": "",
                "EventSource": "Platform", "DurationInSeconds": -1,
            }  # fmt: skip
            self._incarnation += 1
            return number

    def start(self, number: str = "") -> None:
        """An event, or all of them, begin."""
        with self._guard:
            for each in [number] if number else [*self._events]:
                self._events[each] |= {"EventStatus": "Started", "NotBefore": ""}
            self._incarnation += 1

    def withdraw(self, number: str = "") -> None:
        """An event, or all of them, are done or cancelled."""
        with self._guard:
            for each in [number] if number else [*self._events]:
                del self._events[each]
            self._incarnation += 1

    def move(self) -> None:
        """The incarnation changes, and nothing else."""
        with self._guard:
            self._incarnation += 1

    def reply(self, asked: Asked) -> Reply:
        """400, 404, 405, the document, or an event that begins."""
        if asked.path not in _VERSIONS:
            return Reply(404, '{"error":"Not found"}')
        if asked.all("Metadata") != ["true"] or asked.all("X-Forwarded-For"):
            return Reply(400, '{"error":"Bad request. Required metadata header not specified"}')
        if asked.query.get("api-version") not in _VERSIONS[asked.path]:
            return Reply(
                400, '{"error":"Bad request. api-version is invalid or was not specified in the request."}'
            )
        if asked.path == NAME:
            return Reply(200, self.name) if asked.query.get("format") == "text" else Reply(400)
        if asked.method == "POST":
            return self._approve(asked.body)
        if asked.method != "GET":
            return Reply(405)
        if not self._on:
            self.over.wait(self.first)
            self._on = True
        with self._guard:
            events = [*self._events.values()]
            return Reply(200, json.dumps({"DocumentIncarnation": self._incarnation, "Events": events}))

    def _approve(self, body: bytes) -> Reply:
        try:
            numbers = [each["EventId"] for each in json.loads(body)["StartRequests"]]
        except (ValueError, KeyError, TypeError):
            return Reply(400, '{"error":"Bad request. The request body is malformed."}')
        if not all(number in self._events for number in numbers):
            return Reply(400, '{"error":"Bad request. No such event."}')
        self.acknowledged += numbers
        for number in numbers:
            self.start(number)
        return Reply(200)


if __name__ == "__main__":
    by_hand(
        FakeAzure,
        "CKPTD_AZURE_METADATA",
        lambda fake: {name: getattr(fake, name) for name in ("mark", "start", "withdraw", "move")},
    )

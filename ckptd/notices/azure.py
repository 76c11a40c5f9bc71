"""Azure: Scheduled Events of this machine: preemption, reboot, redeployment, a freeze, the end.

Source: MicrosoftDocs/azure-compute-docs, virtual-machines/linux/scheduled-events.md. The first call switches the
service on, which may take two minutes, and events come up to five minutes later; without a call for a day it is
switched off again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ckptd.notices.clock import clock_words, monotonic_of, unix_time
from ckptd.notices.event import LEAVE, PAUSE, Ears, Notice, Over
from ckptd.notices.http import Answer, NoAnswer, Service
from ckptd.notices.rounds import go_round

NAME = "azure"
ENDPOINT = "CKPTD_AZURE_METADATA"
EVERY = 1.0
"""Seconds between looks; 'poll the endpoint once per second'."""
FIRST_PATIENCE = 180.0
"""Seconds for the first answer, which switches the service on."""
PATIENCE = 5.0
ACK_PATIENCE = 2.0
_EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
_NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
_METADATA = {"Metadata": "true"}
_KINDS = {
    "Preempt": (LEAVE, "takes back this spot machine", 600.0),
    "Terminate": (LEAVE, "deletes this machine", 900.0),
    "Reboot": (LEAVE, "reboots this machine", 86400.0),
    "Redeploy": (LEAVE, "moves this machine to another host, and its memory is lost,", 86400.0),
    "Freeze": (PAUSE, "freezes this machine for a while", 86400.0),
}
"""What each type of event means, and how many seconds ahead it is told at most: more can't be meant."""


class Azure:
    """A source."""

    name = NAME

    def __init__(self, service: Service) -> None:
        self._service = service
        self._machine = ""
        self._answered = False
        self._incarnation: object = None
        self._standing: dict[str, Notice] = {}
        self._guard = threading.Lock()
        self._pending: set[str] = set()

    def watch(self, ears: Ears, over: Over) -> None:
        """See ckptd.notices.event.Source."""
        go_round(lambda: self._look(ears, over), ears, over, EVERY)
        last = Over()
        try:
            self._acknowledge_pending(last)
        finally:
            last.close()

    def acknowledge(self, number: str) -> None:
        """Let an event begin before its time, for all machines that it is for: only when what it ends is durable.

        ``number``: the id of its notice.
        Returns at once; it is sent within a second, or when the watch is closed, and again until it is taken.
        """
        with self._guard:
            self._pending.add(number)

    def _look(self, ears: Ears, over: Over) -> None:
        patience = PATIENCE if self._answered else FIRST_PATIENCE
        answer = self._service.ask(_EVENTS, over, patience, headers=_METADATA)
        if answer.status != 200:
            raise NoAnswer(f"Azure's scheduled events: it answers {answer.status}: {answer.text()[:100]}")
        said = answer.json()
        events = said.get("Events") if isinstance(said, dict) else None
        if not isinstance(events, list) or not all(isinstance(each, dict) for each in events):
            raise NoAnswer(f"Azure's scheduled events are {answer.text()[:60]!r}")
        self._answered = True
        nameless = self._find_machine(over) if not self._machine else None
        incarnation = said.get("DocumentIncarnation")
        if incarnation is None or incarnation != self._incarnation:
            self._hear(events, answer, ears)
            # As long as the name isn't known, the same events have to be gone through again.
            self._incarnation = incarnation if nameless is None else None
        self._acknowledge_pending(over)
        if nameless is not None:
            raise nameless

    def _find_machine(self, over: Over) -> NoAnswer | None:
        """Find this machine's name; what is wrong if that can't be had."""
        try:
            answer = self._service.ask(_NAME, over, PATIENCE, headers=_METADATA)
        except NoAnswer as error:
            return error
        if answer.status != 200 or not answer.text():
            return NoAnswer(
                f"Azure doesn't tell this machine's name, it answers {answer.status}: events of its neighbours are "
                "taken for its own"
            )
        self._machine = answer.text()
        return None

    def _hear(self, events: list[dict[str, Any]], answer: Answer, ears: Ears) -> None:
        """Tell what is new, and what is no longer there; an event that is done or cancelled just vanishes."""
        ours = [self._read(each, answer) for each in events if self._is_ours(each)]
        found = {notice.id: notice for notice in ours}
        for notice in ours:
            ears.tell(notice)
        for number in self._standing.keys() - found.keys():
            ears.tell(replace(self._standing[number], withdrawn=True))
        self._standing = found
        with self._guard:
            self._pending &= found.keys()

    def _is_ours(self, event: dict[str, Any]) -> bool:
        """Events of the whole availability set come to each of its machines."""
        names = event.get("Resources")
        if not self._machine or not isinstance(names, list) or not names:
            return True
        return self._machine.lower() in {str(name).lower() for name in names}

    def _read(self, event: dict[str, Any], answer: Answer) -> Notice:
        kind = str(event.get("EventType"))
        meaning, does, most = _KINDS.get(kind, (LEAVE, f"announces {kind}", 86400.0))
        number = str(event.get("EventId") or kind)
        text = str(event.get("NotBefore") or "")
        if event.get("EventStatus") == "Started" or not text:
            return Notice(NAME, meaning, number, answer.heard, f"Azure {does} now")
        when = unix_time(text)
        if when is None:
            return Notice(NAME, meaning, number, None, f"Azure {does} at {text!r}")
        deadline = monotonic_of(when, answer.clock, answer.heard, most)
        return Notice(NAME, meaning, number, deadline, f"Azure {does} at {clock_words(when)} or later")

    def _acknowledge_pending(self, over: Over) -> None:
        with self._guard:
            pending = sorted(self._pending)
        if not pending:
            return
        body = json.dumps({"StartRequests": [{"EventId": each} for each in pending]}).encode()
        headers = {**_METADATA, "Content-Type": "application/json"}
        answer = self._service.ask(_EVENTS, over, ACK_PATIENCE, method="POST", headers=headers, body=body)
        if answer.status == 400:  # asking again would not help
            with self._guard:
                self._pending -= set(pending)
        if answer.status != 200:
            raise NoAnswer(f"Azure doesn't take that an event may begin: it answers {answer.status}")
        with self._guard:
            self._pending -= set(pending)


def azure_sources(env: Mapping[str, str]) -> list[Azure]:
    """The one source."""
    return [Azure(Service(env.get(ENDPOINT) or "http://169.254.169.254", ENDPOINT))]

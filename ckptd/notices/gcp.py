"""Google Cloud: a spot machine that is preempted, a host that goes into maintenance. Told by long polls.

Sources: guest-agent metadata/metadata.go; cloud.google.com/go/compute/metadata, Subscribe;
k8s-node-termination-handler, gceTerminationHandler.go. Google's clients wait for 60 s a poll; these wait for
10, since an answer that is lost on its way may cost that much of 30 s of notice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import quote

from ckptd.notices.event import LEAVE, PAUSE, Ears, Notice, Over
from ckptd.notices.http import Answer, NoAnswer, Service

NAME = "gcp"
HOST = "GCE_METADATA_HOST"
"""Host, or host and port; as in Google's own clients."""
PREEMPTION_SECONDS = 30.0
"""From the notice to the end."""
POLL_SECONDS = 10
"""How long the server holds a request for which there is nothing new."""
SPARE = 3.0
"""Seconds more until it counts as lost."""
PATIENCE = 2.0
"""Seconds for an answer that need not wait."""
AGAIN = 0.5
"""Seconds between tries where there is no answer, and between polls that the server doesn't hold."""
_FLAVOR = {"Metadata-Flavor": "Google"}


class Key:
    """Follows one value of the metadata: a source. Each has its own ETag, which says what it has seen."""

    name = NAME

    def __init__(self, service: Service, path: str, read: Callable[[str, float], Notice | None]) -> None:
        """``read``: what a value that was heard at a time means; raises NoAnswer."""
        self._service, self._read = service, read
        self._path = f"/computeMetadata/v1/instance/{path}"
        self._standing: Notice | None = None

    def watch(self, ears: Ears, over: Over) -> None:
        """See ckptd.notices.event.Source."""
        etag = ""
        while not over.is_set():
            begun = time.monotonic()
            try:
                # The first asks for the value as it stands: what was announced before is no change.
                seen = self._get(etag, over)
                self._hear(seen, ears)
            except NoAnswer as error:
                etag = ""
                if not over.is_set():
                    ears.trouble(str(error))
                    over.wait(AGAIN)
                continue
            ears.well()
            unheld = seen.headers.get("etag", "") in ("", etag) and time.monotonic() - begun < AGAIN
            etag = seen.headers.get("etag", "")
            if unheld:
                over.wait(AGAIN)

    def _get(self, etag: str, over: Over) -> Answer:
        wait = (
            f"?wait_for_change=true&last_etag={quote(etag, safe='')}&timeout_sec={POLL_SECONDS}"
            if etag
            else ""
        )
        seconds = POLL_SECONDS + SPARE if etag else PATIENCE
        answer = self._service.ask(self._path + wait, over, seconds, headers=_FLAVOR)
        if answer.status != 200:
            raise NoAnswer(f"Google's metadata server answers {answer.status} to {self._path}")
        if answer.headers.get("metadata-flavor") != "Google":
            raise NoAnswer(f"what answers at {self._service.base} is not Google's metadata server")
        return answer

    def _hear(self, answer: Answer, ears: Ears) -> None:
        last, self._standing = self._standing, self._read(answer.text(), answer.heard)
        if last is not None and (self._standing is None or last.id != self._standing.id):
            ears.tell(replace(last, withdrawn=True))
        if self._standing is not None:
            if last is not None and last.id == self._standing.id:
                self._standing = last  # its time runs from when it was first heard
            ears.tell(self._standing)


def gcp_sources(env: Mapping[str, str]) -> list[Key]:
    """One for each value, so that each is followed without a pause."""
    service = Service(env.get(HOST) or "169.254.169.254", HOST)
    return [Key(service, "preempted", read_preempted), Key(service, "maintenance-event", read_maintenance)]


def read_preempted(text: str, heard: float) -> Notice | None:
    """TRUE or FALSE; raises NoAnswer."""
    if text not in ("TRUE", "FALSE"):
        raise NoAnswer(f"Google's instance/preempted is {text[:60]!r}")
    if text == "FALSE":
        return None
    return Notice(NAME, LEAVE, "preempted", heard + PREEMPTION_SECONDS, "Google preempts this machine")


def read_maintenance(text: str, heard: float) -> Notice | None:
    """NONE, or what happens to the machine when its host is maintained; raises NoAnswer."""
    if text == "NONE":
        return None
    if text == "MIGRATE_ON_HOST_MAINTENANCE":
        return Notice(NAME, PAUSE, text, None, "Google moves this machine to another host (maintenance)")
    if text == "TERMINATE_ON_HOST_MAINTENANCE":
        return Notice(NAME, LEAVE, text, None, "Google ends this machine: its host goes into maintenance")
    raise NoAnswer(f"Google's instance/maintenance-event is {text[:60]!r}")

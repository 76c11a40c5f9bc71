"""The job's socket: the agent's messages go to the conversation, those of users' commands are answered here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckptd import control
from ckptd.daemon.context import Context
from ckptd.daemon.conversation import Conversation
from ckptd.daemon.dumps import Dumps
from ckptd.daemon.notices import Notices
from ckptd.errors import CkptdError, UsageError
from ckptd.notices.event import KINDS, Notice
from ckptd.settings import ON_NOTICE

TURN = 64
"""Messages that are read before timers and signals get their turn."""
FOLLOWERS = 16
"""Who may follow at a time; the first goes when one more comes."""


@dataclass(frozen=True)
class Acts:
    """What a user may have done, by the supervisor's hands."""

    halt: Callable[[float | None, bool], None]
    """Seconds of grace or None, and whether to end it unsaved."""
    facts: Callable[[], dict[str, Any]]


class Desk:
    """Reads the socket."""

    def __init__(
        self, context: Context, talk: Conversation, dumps: Dumps, notices: Notices, acts: Acts
    ) -> None:
        self._job, self._talk, self._dumps = context, talk, dumps
        self._notices, self._acts = notices, acts
        self._followers: list[bytes] = []
        context.loop.watch(context.server.socket, self.on_socket)
        context.news.listeners.append(self._publish)

    def on_socket(self) -> None:
        """Messages have arrived."""
        for _ in range(TURN):
            received = self._job.server.receive()
            if received is None:
                return
            peer, message = received
            if isinstance(message, control.Request):
                self._on_request(peer, message)
            else:
                self._talk.on_message(peer, message)

    def _on_request(self, peer: bytes, request: control.Request) -> None:
        try:
            facts = self._serve(peer, request)
        except CkptdError as error:
            self._answer(peer, request.ask, {}, error)
            return
        if facts is not None:
            self._answer(peer, request.ask, facts)

    def _serve(self, peer: bytes, request: control.Request) -> dict[str, Any] | None:
        """What is asked for; None if the answer comes later, or as News. Raises CkptdError."""
        if isinstance(request, control.Look):
            return self._acts.facts()
        if isinstance(request, control.Mind):
            self._notices.minded(request.seconds)
            return self._acts.facts()
        if isinstance(request, control.Save):
            self._dumps.save_now("user", lambda facts, error: self._answer(peer, request.ask, facts, error))
            return None
        if isinstance(request, control.Halt):
            self._acts.halt(request.grace, request.unsaved)
            return {}
        if isinstance(request, control.Tell):
            self._notices.heard(told(request), request.on_notice)
            return {}
        if isinstance(request, control.Follow):
            self._followers = [*[each for each in self._followers if each != peer], peer][-FOLLOWERS:]
            return None
        raise UsageError("the supervisor of a job can't do that: the daemon may")

    def _answer(self, peer: bytes, ask: str, facts: dict[str, Any], error: CkptdError | None = None) -> None:
        status, text = (error.status, str(error)) if error is not None else (0, "")
        self._job.server.send(peer, control.Reply(ask, status, text, facts))

    def _publish(self, name: str, at: float, facts: dict[str, Any]) -> None:
        message = control.News(name, at, facts)
        self._followers = [each for each in self._followers if self._job.server.send(each, message)]


def told(request: control.Tell) -> Notice:
    """The notice that a request carries. Raises UsageError."""
    if request.kind not in KINDS:
        raise UsageError(f"{request.kind!r} is no kind of notice: {', '.join(KINDS)}")
    if request.on_notice and request.on_notice not in ON_NOTICE:
        raise UsageError(f"{request.on_notice!r} can't be done on a notice: {', '.join(ON_NOTICE)}")
    return Notice(request.source, request.kind, request.id, request.deadline, request.text, request.withdrawn)

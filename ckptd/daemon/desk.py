"""The job's socket: the agent's messages go to the conversation, those of users' commands are answered here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckptd import control, protocol
from ckptd.daemon.context import Context
from ckptd.daemon.conversation import Conversation
from ckptd.daemon.dumps import Dumps
from ckptd.daemon.notices import Notices
from ckptd.errors import CkptdError, DumpFailedError, UsageError
from ckptd.notices.event import KINDS, Notice
from ckptd.settings import ON_NOTICE

TURN = 64
"""Messages that are read before timers and signals get their turn."""
FOLLOWERS = 128
"""Who may follow at a time; the first goes when one more comes."""
WAITING = 4
"""Checkpoints that one client may wait for at a time."""
CLIENTS = 1000
"""Clients that may wait for one."""
LONGEST = 3600.0
"""Seconds for which a daemon may say that it listens for us."""
TEXT, NAME = 1000, 200
"""Letters of a notice's text, and of its source and id."""


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
        self._told: dict[str, Any] | None = None
        """The facts, for all who look in the same turn."""
        self._waiting: dict[bytes, int] = {}
        """How many checkpoints each client waits for."""
        context.server.serve(context.loop, self.on_socket)
        context.news.listeners.append(self._publish)

    def on_socket(self) -> None:
        """Messages have arrived."""
        self._told = None
        for _ in range(TURN):
            received = self._job.server.receive()
            if received is None:
                return
            try:
                self._on_message(*received)
            except Exception as error:  # noqa: BLE001 - no message may be the end of a job's supervisor
                self._job.server.nonsense += 1
                what = f"{type(error).__name__}: {error}"
                self._job.voice.say(f"a {type(received[1]).__name__} could not be dealt with: {what}")

    def _on_message(self, peer: bytes, message: protocol.Message) -> None:
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
            self._told = self._told or self._acts.facts()
            return self._told
        self._told = None
        if isinstance(request, control.Mind):
            if not 0 <= request.seconds <= LONGEST:
                raise UsageError(f"{request.seconds:g} s is not a time for which a daemon can answer")
            self._notices.minded(request.seconds)
            return self._acts.facts()
        if isinstance(request, control.Save):
            self._save(peer, request)
            return None
        if isinstance(request, control.Halt):
            if request.grace is not None and request.grace < 0:
                raise UsageError(f"a grace of {request.grace:g} s can't be given")
            self._acts.halt(request.grace, request.unsaved)
            return {}
        if isinstance(request, control.Tell):
            self._notices.told(told(request), request.on_notice)
            return {}
        if isinstance(request, control.Follow):
            self._followers = [*[each for each in self._followers if each != peer], peer][-FOLLOWERS:]
            return None
        raise UsageError("the supervisor of a job can't do that: the daemon may")

    def _save(self, peer: bytes, request: control.Save) -> None:
        """Raises DumpFailedError."""
        waits = self._waiting.get(peer, 0)
        if waits >= WAITING or (not waits and len(self._waiting) >= CLIENTS):
            raise DumpFailedError(
                "enough checkpoints are waited for: ask again when the one under way is done"
            )
        self._waiting[peer] = waits + 1

        def saved(facts: dict[str, Any], error: CkptdError | None) -> None:
            self._no_longer(peer)
            self._answer(peer, request.ask, facts, error)

        try:
            self._dumps.save_now("user", saved)
        except CkptdError:
            self._no_longer(peer)
            raise

    def _no_longer(self, peer: bytes) -> None:
        """A client waits for one checkpoint less."""
        self._waiting[peer] -= 1
        if not self._waiting[peer]:
            del self._waiting[peer]

    def _answer(self, peer: bytes, ask: str, facts: dict[str, Any], error: CkptdError | None = None) -> None:
        status, text = (error.status, str(error)) if error is not None else (0, "")
        self._job.server.send(peer, control.Reply(ask, status, text, facts))

    def _publish(self, name: str, at: float, facts: dict[str, Any]) -> None:
        message = control.News(name, at, facts)
        self._followers = [each for each in self._followers if self._job.server.send(each, message)]


def told(request: control.Tell) -> Notice:
    """The notice that a request carries. Raises UsageError."""
    if len(request.text) > TEXT or max(len(request.source), len(request.id)) > NAME:
        raise UsageError(f"a notice has up to {TEXT} letters, its source and id up to {NAME}")
    if request.kind not in KINDS:
        raise UsageError(f"{request.kind!r} is no kind of notice: {', '.join(KINDS)}")
    if request.on_notice and request.on_notice not in ON_NOTICE:
        raise UsageError(f"{request.on_notice!r} can't be done on a notice: {', '.join(ON_NOTICE)}")
    return Notice(request.source, request.kind, request.id, request.deadline, request.text, request.withdrawn)

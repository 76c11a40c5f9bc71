"""The conversation with the agent of the present attempt: what it says, and what follows."""

from __future__ import annotations

from collections.abc import Callable

from ckptd import protocol, states
from ckptd.daemon.attempt import Attempt
from ckptd.daemon.context import Context
from ckptd.daemon.dumps import Dumps
from ckptd.daemon.resume import refusal
from ckptd.settings import signal_name

REFUSED_SECONDS = 10.0
"""A process that refused to resume ends by itself, in this time at most."""
SAID = 1000
"""Sentences of one attempt's agent that are shown: a log is no place for more."""
EARLY = 64
"""Peers that are remembered which came before there was an attempt, and as many words of each."""
RECORD_SECONDS = 5.0
"""How often progress is written to the record, at most."""


class Conversation:
    """Answers the agent. ``end_now`` ends the attempt's processes at once."""

    def __init__(self, context: Context, dumps: Dumps, end_now: Callable[[Attempt], None]) -> None:
        self._job = context
        self._dumps = dumps
        self._end_now = end_now
        self._recorded = 0.0
        self._stepped = False
        """The first step of this attempt was told of."""
        self._early: dict[bytes, list[protocol.Message]] = {}
        """By peer: what was said before it was known whether a program is to be looked after again."""

    def on_message(self, peer: bytes, message: protocol.Message) -> None:
        """One message; those of a peer that never said Hello are ignored."""
        attempt = self._job.attempt
        if attempt is None:
            self._keep(peer, message)
            return
        if isinstance(message, protocol.Hello):
            self._hello(attempt, peer, message)
        elif peer != attempt.peer:
            self._job.server.nonsense += 1
        elif isinstance(message, protocol.Progress):
            self._progress(attempt, message)
        elif isinstance(message, protocol.Notice):
            self._notice(attempt, message)
        elif isinstance(message, protocol.Due):
            self._dumps.periodic(attempt)
        elif isinstance(message, protocol.Copying):
            self._dumps.copying(attempt, message)
        elif isinstance(message, protocol.Dumped):
            self._dumps.dumped(attempt, message)
        elif isinstance(message, protocol.Undumped):
            self._dumps.undumped(attempt, message)
        elif isinstance(message, protocol.Resumed):
            self._resumed(attempt, message)
        elif isinstance(message, protocol.Refused):
            self._refused(attempt, message)
        elif isinstance(message, protocol.Finished):
            attempt.finished = True
        elif isinstance(message, protocol.Said):
            self._said(attempt, message)

    def begin(self) -> None:
        """There is an attempt: hear those who came before it. An agent that has lost its ckptd says Hello only once."""
        early, self._early = self._early, {}
        for peer, messages in early.items():
            for message in messages:
                self.on_message(peer, message)

    def _keep(self, peer: bytes, message: protocol.Message) -> None:
        if isinstance(message, protocol.Hello) and len(self._early) < EARLY:
            self._early.setdefault(peer, [])
        if len(said := self._early.get(peer, [])) < EARLY and peer in self._early:
            said.append(message)

    def _said(self, attempt: Attempt, message: protocol.Said) -> None:
        attempt.said += 1
        if attempt.said > SAID:
            self._job.server.nonsense += 1
            return
        self._job.voice.say(message.text, "note" if message.note else "")
        if message.note:
            self._job.ledger.write(note=message.text)

    def _hello(self, attempt: Attempt, peer: bytes, message: protocol.Hello) -> None:
        # The same process under a new address has reconnected; another one is a rival while the first lives.
        again = attempt.hello and message.pid == attempt.agent_pid
        rival = attempt.hello and not again and self._job.tree.holds(attempt.agent_pid)
        if rival and self._job.tree.holds(message.pid):
            attempt.rival = message.pid
            self._job.voice.warn(f"{self._dumps.hindrance(attempt)}: nothing is saved while both run", "note")
        if rival or (attempt.status is None and not self._job.tree.holds(message.pid)):
            self._job.server.nonsense += 1
            return
        attempt.peer, attempt.agent_pid, attempt.hello = peer, message.pid, True
        self._job.server.send(peer, protocol.Welcome(every_steps=self._job.settings.every.steps))
        for dump, done in self._job.recovered.items():  # an agent that waits for a ckptd that was killed
            self._job.server.send(peer, protocol.Saved(dump, str(done.path), done.saving.step))
        self._job.recovered.clear()
        if attempt.status is not None:
            return
        if again:
            self._ask_again(attempt)
            return
        self._job.voice.detail(f"the agent in process {message.pid} is ready", "hello", pid=message.pid)
        if self._job.ledger.state == states.STARTING:
            state = states.REPLAYING if attempt.resuming else states.RUNNING
            self._job.ledger.enter(state, agent=message.pid)
        self._dumps.begin(attempt)
        self._stepped = False
        self._job.news.tell("hello", attempt=attempt.number, resuming=attempt.resuming)
        if self._job.stop.signal and not self._job.stop.passed_on:
            self._dumps.ask_to_leave(attempt, "stop", self._job.stop.deadline or None)

    def _ask_again(self, attempt: Attempt) -> None:
        """Repeat what was not answered yet; the agent takes the same request once, and says so again."""
        for request in list(attempt.requests.values()) if attempt.peer is not None else []:
            self._job.server.send(attempt.peer or b"", request.message())

    def _progress(self, attempt: Attempt, message: protocol.Progress) -> None:
        if attempt.adopted and attempt.resuming:
            attempt.resumed = True  # it said so while nobody listened: nothing is told before that
        if not self._stepped:
            self._stepped = True
            self._job.news.tell("stepping", step=message.step)
        attempt.step_seconds = message.step_seconds or attempt.step_seconds
        if self._job.loop.now() - self._recorded >= RECORD_SECONDS:
            self._recorded = self._job.loop.now()
            self._job.ledger.write(step=message.step, loss=message.loss)

    def _notice(self, attempt: Attempt, message: protocol.Notice) -> None:
        if attempt.finished:
            return  # too late: there is nothing left to save
        attempt.notice = signal_name(message.signal)
        self._job.voice.detail(f"{signal_name(message.signal)} reached the training process")
        if attempt.status is not None or attempt.peer is None:
            return
        if attempt.leave is None:
            self._dumps.ask_to_leave(attempt, "signal")
        else:
            self._ask_again(attempt)  # for a stop or an earlier signal; this signal waits for an answer too

    def _resumed(self, attempt: Attempt, message: protocol.Resumed) -> None:
        if not attempt.resuming:
            self._job.server.nonsense += 1
            return
        attempt.resumed = True
        if attempt.base.memory is None:
            self._job.writer.trust(attempt.base)
            if self._job.settings.from_step is None:
                self._job.offer(attempt.base)  # it has been read, and found right
        self._job.voice.say(
            f"resumed at step {message.step} after {message.seconds:.1f} s", "resumed",
            step=message.step, seconds=message.seconds,
        )  # fmt: skip
        if self._job.ledger.state == states.REPLAYING:
            self._job.ledger.enter(states.RUNNING, step=message.step)
        self._job.news.tell("resumed", step=message.step, seconds=message.seconds)
        self._dumps.plan_periodic()

    def _refused(self, attempt: Attempt, message: protocol.Refused) -> None:
        attempt.damaged = message.damaged
        attempt.refused = refusal(message.why, attempt.base, resumed=attempt.resumed)
        self._job.loop.after("deadline", REFUSED_SECONDS, lambda: self._end_now(attempt))

"""The conversation with the agent of the present attempt: what it says, and the dumps it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ckptd import protocol, states
from ckptd.daemon.attempt import PERIODIC_SECONDS, Attempt, Request
from ckptd.daemon.context import Context
from ckptd.daemon.interval import Interval
from ckptd.daemon.resume import Base, refusal
from ckptd.daemon.writer import Committed, Done, Saving
from ckptd.errors import CkptdError
from ckptd.memory.segment import Segment
from ckptd.settings import signal_name
from ckptd.store.quantity import bytes_text

REFUSED_SECONDS = 10.0
"""A process that refused to resume ends by itself, in this time at most."""
RECORD_SECONDS = 5.0
"""How often progress is written to the record, at most."""


class Conversation:
    """Answers the agent. ``end_now`` ends the attempt's processes at once."""

    def __init__(self, context: Context, end_now: Callable[[Attempt], None]) -> None:
        self._job = context
        self._end_now = end_now
        self._recorded = 0.0
        self._interval = Interval()
        self._began = context.loop.now()
        self._copied = 0.0
        """When the last segment arrived."""
        self._unsaved_why = ""

    def on_socket(self) -> None:
        """Messages have arrived."""
        while (received := self._job.server.receive()) is not None:
            self.on_message(*received)

    def on_message(self, peer: bytes, message: protocol.Message) -> None:
        """One message; those of a peer that never said Hello are ignored."""
        attempt = self._job.attempt
        if attempt is None:
            return
        if isinstance(message, protocol.Hello):
            self._hello(attempt, peer, message)
        elif peer != attempt.peer:
            self._job.server.nonsense += 1
        elif isinstance(message, protocol.Progress):
            self._progress(message)
        elif isinstance(message, protocol.Notice):
            self._notice(attempt, message)
        elif isinstance(message, protocol.Due):
            self._periodic(attempt)
        elif isinstance(message, protocol.Dumped):
            self._dumped(attempt, message)
        elif isinstance(message, protocol.Undumped):
            self._undumped(attempt, message)
        elif isinstance(message, protocol.Resumed):
            self._resumed(attempt, message)
        elif isinstance(message, protocol.Refused):
            self._refused(attempt, message)
        elif isinstance(message, protocol.Finished):
            attempt.finished = True
        elif isinstance(message, protocol.Said):
            self._job.voice.say(message.text)
            if message.note:
                self._job.ledger.write(note=message.text)

    def _hello(self, attempt: Attempt, peer: bytes, message: protocol.Hello) -> None:
        # The same process under a new address has reconnected; another one is a rival while the first lives.
        again = attempt.hello and message.pid == attempt.agent_pid
        rival = attempt.hello and not again and self._job.tree.holds(attempt.agent_pid)
        if rival or (attempt.status is None and not self._job.tree.holds(message.pid)):
            self._job.server.nonsense += 1
            return
        attempt.peer, attempt.agent_pid, attempt.hello = peer, message.pid, True
        self._job.server.send(peer, protocol.Welcome(every_steps=self._job.settings.every.steps))
        if attempt.status is not None:
            return
        if again:
            self._ask_again(attempt)
            return
        self._job.voice.detail(f"the agent in process {message.pid} is ready")
        if self._job.ledger.state == states.STARTING:
            state = states.REPLAYING if attempt.resuming else states.RUNNING
            self._job.ledger.enter(state, agent=message.pid)
        self._interval.failures = attempt.number - 1
        if not attempt.resuming:
            self._plan_periodic()
        if self._job.stop.signal and not self._job.stop.passed_on:
            self.ask_to_leave(attempt, "stop")

    def _ask_again(self, attempt: Attempt) -> None:
        """Repeat the request to leave, if it was not answered yet; the agent takes the same one once."""
        if attempt.leave is not None and attempt.leave.dump in attempt.requests and attempt.peer is not None:
            self._job.server.send(attempt.peer, attempt.leave.message())

    def _progress(self, message: protocol.Progress) -> None:
        if self._job.loop.now() - self._recorded >= RECORD_SECONDS:
            self._recorded = self._job.loop.now()
            self._job.ledger.write(step=message.step, loss=message.loss)

    def _notice(self, attempt: Attempt, message: protocol.Notice) -> None:
        if attempt.finished:
            return  # too late: there is nothing left to save
        attempt.notice = message.signal
        self._job.voice.detail(f"{signal_name(message.signal)} reached the training process")
        if attempt.status is not None or attempt.peer is None:
            return
        if attempt.leave is None:
            self.ask_to_leave(attempt, "signal")
        else:
            self._ask_again(attempt)  # for a stop or an earlier signal; this signal waits for an answer too

    def _resumed(self, attempt: Attempt, message: protocol.Resumed) -> None:
        attempt.resumed = True
        if attempt.base.memory is None:
            self._job.writer.trust(attempt.base)
            if self._job.settings.from_step is None:
                self._job.offer(attempt.base)  # it has been read, and found right
        self._job.voice.say(f"resumed at step {message.step} after {message.seconds:.1f} s")
        if self._job.ledger.state == states.REPLAYING:
            self._job.ledger.enter(states.RUNNING, step=message.step)
        self._plan_periodic()

    def _refused(self, attempt: Attempt, message: protocol.Refused) -> None:
        attempt.damaged = message.damaged
        attempt.refused = refusal(message.why, attempt.base, resumed=attempt.resumed)
        self._job.loop.after("deadline", REFUSED_SECONDS, lambda: self._end_now(attempt))

    # ---- dumps ----------------------------------------------------------------------------------

    def _plan_periodic(self) -> None:
        every = self._job.settings.every
        seconds = self._interval.seconds() if every.chosen else every.seconds
        if seconds > 0:
            self._job.loop.after("every", seconds, self._every)
        if every.chosen:
            self._interval.ran = self._job.loop.now() - self._began
            self._job.ledger.write(every={"seconds": seconds, "why": self._interval.why()})

    def _every(self) -> None:
        self._plan_periodic()
        # Before the first step there is nothing of worth: what ckptd does by itself waits for that.
        trains = bool(self._job.ledger.record.extra.get("step")) or not self._job.settings.every.chosen
        if self._job.attempt is not None and trains:
            self._periodic(self._job.attempt)

    def _periodic(self, attempt: Attempt) -> None:
        attempt.forget_overdue(self._job.loop.now())
        attempt.owed = not attempt.may_ask_periodic()
        if not attempt.owed and attempt.peer is not None:
            deadline = self._job.loop.now() + max(self._job.settings.grace, PERIODIC_SECONDS)
            self._job.server.send(attempt.peer, attempt.ask("periodic", deadline, leave=False))

    def ask_to_leave(self, attempt: Attempt, reason: str) -> None:
        """Ask for a dump with which the process leaves: 'signal' or 'stop'."""
        if attempt.peer is None:
            return
        deadline = self._job.loop.now() + self._job.settings.grace
        self._job.server.send(attempt.peer, attempt.ask(reason, deadline, leave=True))
        self._job.loop.at("deadline", deadline, lambda: self._end_now(attempt))
        self._job.hurry(urgent=True)
        self._job.ledger.enter(states.DUMPING)

    def _dumped(self, attempt: Attempt, message: protocol.Dumped) -> None:
        request = attempt.answer(message.dump)
        segment = Path(message.segment)
        if not self._job.segments.holds(segment):
            self._job.server.nonsense += 1
            if request is not None:
                self._unsaved(attempt, request, f"there is no segment {message.segment}")
            return
        if request is None:
            self._job.server.nonsense += 1
            segment.unlink(missing_ok=True)  # shared memory: no disk to wait for
            return
        attempt.writing += 1
        self._copied = self._job.loop.now()
        if request.leave and self._job.ledger.state == states.DUMPING:
            self._job.ledger.enter(states.SAVING)
        self._job.writer.save(
            Saving(
                dump=message.dump, segment=segment, step=message.step, reason=request.reason,
                attempt=attempt.number, seconds=message.seconds, leave=attempt.leave is not None,
            ),
        )  # fmt: skip
        self._job.voice.detail(
            f"step {message.step} copied, training stood still for {message.seconds:.3f} s"
        )

    def adopt(self, attempt: Attempt) -> None:
        """The process is gone: take the dump that it had completed but could not tell us of."""
        for path in self._job.segments.files() if attempt.requests else []:
            try:
                with Segment(path) as segment:
                    dump, step = segment.index.dump, segment.index.facts.get("step")
            except (CkptdError, OSError, ValueError):
                continue  # not complete
            if dump in attempt.requests and isinstance(step, int):
                self._dumped(attempt, protocol.Dumped(dump, str(path), step, 0.0))

    def _undumped(self, attempt: Attempt, message: protocol.Undumped) -> None:
        request = attempt.answer(message.dump)
        if request is None:
            self._job.server.nonsense += 1
        elif request.leave and attempt.resuming:
            self._end_now(attempt)  # what it resumes from is still the newest: nothing is lost
        else:
            self._unsaved(attempt, request, message.why, tell=False)

    def _unsaved(self, attempt: Attempt, request: Request, why: str, tell: bool = True) -> None:
        """A dump has failed: training goes on."""
        self._job.hurry(urgent=False)
        if tell and attempt.peer is not None:
            self._job.server.send(attempt.peer, protocol.Unsaved(dump=request.dump, why=why))
        self._job.ledger.write(unsaved=why)
        if not request.leave and self._job.settings.every.chosen:
            self._interval.failed += 1
            self._plan_periodic()
        if attempt.status is not None:
            self._job.voice.say(f"the last dump could not be saved: {why}")
            return
        if not request.leave or attempt.leave is not request:
            # What ckptd does by itself it says once.
            known, self._unsaved_why = why == self._unsaved_why, why
            tell_it = (
                self._job.voice.detail if known and self._job.settings.every.chosen else self._job.voice.say
            )
            tell_it(f"could not save: {why}; training goes on")
            return
        again = (
            f"; {signal_name(self._job.stop.signal)} again ends it unsaved" if self._job.stop.signal else ""
        )
        self._job.voice.say(f"could not save: {why}; training goes on{again}")
        self._job.stop.failed, self._job.stop.signal = bool(self._job.stop.signal), 0
        attempt.stay()
        self._job.loop.cancel("deadline")
        self._job.ledger.enter(states.RUNNING)

    def written(self, attempt: Attempt, done: Done) -> None:
        """The writer is done with a segment of this attempt."""
        attempt.writing -= 1
        if isinstance(done.value, Committed):
            self._committed(attempt, done.value)
        else:
            dump = done.tag.partition(":")[2]
            request = attempt.leave if attempt.leave is not None and attempt.leave.dump == dump else None
            missing = Request(dump, "periodic", 0.0, leave=False)
            self._unsaved(attempt, request or missing, str(done.error))
        if attempt.owed and attempt.status is None:
            self._periodic(attempt)

    def _committed(self, attempt: Attempt, done: Committed) -> None:
        saving, manifest = done.saving, done.manifest
        self._job.newest = Base(done.path, manifest)
        self._job.offer(self._job.newest)
        self._job.hurry(urgent=attempt.status is None and attempt.leave is not None and not saving.leave)
        if attempt.peer is not None:
            saved = protocol.Saved(dump=saving.dump, checkpoint=str(done.path), step=saving.step)
            self._job.server.send(attempt.peer, saved)
        attempt.saved = attempt.saved or saving.leave
        self._interval.dumped(saving.seconds, self._job.loop.now() - self._copied)
        if self._job.settings.every.chosen and attempt.status is None:
            self._plan_periodic()
        if self._job.ledger.state == states.SAVING and attempt.status is None:
            self._job.ledger.enter(states.LEAVING)
        self._job.ledger.write(
            step=saving.step,
            checkpoint=manifest.id,
            checkpoint_at=manifest.created,
            checkpoint_step=saving.step,
            unsaved="",
        )
        text = (
            f"saved step {saving.step} (checkpoint {manifest.id}, {bytes_text(manifest.nbytes)}, "
            f"training stood still for {saving.seconds:.2f} s)"
        )
        if saving.leave:
            cause = self._job.stop.signal or attempt.notice
            self._job.voice.say(f"{signal_name(cause)}: {text}" if cause else text)
        else:
            self._job.voice.detail(text)
        if done.said:
            self._job.voice.say(done.said)
        self._job.writer.retain()

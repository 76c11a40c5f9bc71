"""The dumps of a job: asking the agent for them, and what becomes of each copy that arrives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ckptd import protocol, states
from ckptd.daemon.attempt import PERIODIC_SECONDS, Attempt, Request
from ckptd.daemon.context import Context
from ckptd.daemon.interval import Interval
from ckptd.daemon.resume import Base
from ckptd.daemon.worker import Done
from ckptd.daemon.writer import Committed, Saving
from ckptd.errors import CkptdError, DumpFailedError
from ckptd.settings import signal_name
from ckptd.store.quantity import bytes_text

REST_SECONDS = 60.0
"""By which a checkpoint that nobody waits for may come later to the disk, so that training keeps its pace."""
REST_PART = 0.4
"""Of the time from one such to the next."""
Then = Callable[[dict[str, Any], CkptdError | None], None]
"""Called with the facts of the checkpoint, or with why there is none."""


class Dumps:
    """What is asked for, under way and done. ``end_now`` ends the attempt's processes at once."""

    def __init__(self, context: Context, end_now: Callable[[Attempt], None]) -> None:
        self._job = context
        self._end_now = end_now
        self._interval = Interval()
        self._began = context.loop.now()
        self._copied = 0.0
        """When the last segment arrived."""
        self._unsaved_why = ""
        self._wishes: list[tuple[str, Then]] = []
        """Asked for by a user or a notice, not yet by us: reasons, and who waits."""
        self._granted: dict[str, list[Then]] = {}
        """By dump."""

    def cost(self) -> float | None:
        """Seconds from the copy to the durable checkpoint, of the last one; None before there was one."""
        spent = self._interval.blocked + self._interval.saving
        return spent or None

    def begin(self, attempt: Attempt) -> None:
        """The agent of a new attempt is there."""
        self._interval.failures = attempt.number - 1
        if not attempt.resuming:
            self.plan_periodic()

    def hindrance(self, attempt: Attempt) -> str:
        """Why nothing can be saved now, whatever the agent says; ''."""
        if attempt.rival and self._job.tree.holds(attempt.rival):
            return (
                f"processes {attempt.agent_pid} and {attempt.rival} train beside each other, and what is saved of one "
                "would go on without the other"
            )
        return ""

    # ---- asking ---------------------------------------------------------------------------------

    def save_now(self, reason: str, then: Then) -> None:
        """Have a checkpoint taken while training goes on, 'user' or 'notice'. Raises DumpFailedError."""
        attempt = self._job.attempt
        if attempt is None or attempt.status is not None or attempt.finished:
            raise DumpFailedError("the program doesn't run at the moment: there is nothing new to save")
        if attempt.peer is None:
            note = self._job.ledger.record.extra.get("note") or "the program has not begun to train"
            raise DumpFailedError(f"it can't be saved now: {note}")
        if why := self.hindrance(attempt):
            raise DumpFailedError(f"it can't be saved now: {why}")
        self._wishes.append((reason, then))
        self._job.writer.hurry()
        self.grant(attempt)

    def grant(self, attempt: Attempt) -> None:
        """Ask for what is owed or wished for, if it can be asked for now."""
        if self._wishes and attempt.may_ask_periodic() and attempt.peer is not None:
            wishes, self._wishes = self._wishes, []
            deadline = self._job.loop.now() + max(self._job.settings.grace, PERIODIC_SECONDS)
            message = attempt.ask(wishes[0][0], deadline, leave=False)
            self._granted[message.dump] = [then for _, then in wishes]
            self._job.server.send(attempt.peer, message)
            self._job.news.tell("asked", reason=message.reason, leave=False)
        elif attempt.owed and attempt.status is None:
            self.periodic(attempt)

    def _thank(self, saving: Saving, facts: dict[str, Any]) -> None:
        """Tell those who waited; a dump to leave with is the last there is, and newer than what they asked for."""
        waiting = self._granted.pop(saving.dump, [])
        if saving.leave:
            waiting += self._take_all()
        for then in waiting:
            then(facts, None)

    def _take_all(self) -> list[Then]:
        """Whoever waits for a checkpoint, asked for or not: they are no longer kept here."""
        waiting = [then for each in self._granted.values() for then in each]
        waiting += [then for _, then in self._wishes]
        self._granted, self._wishes = {}, []
        return waiting

    def disappoint(self, why: str) -> None:
        """The attempt is over: nobody waits for its dumps any longer."""
        for then in self._take_all():
            then({}, DumpFailedError(why))

    def plan_periodic(self) -> None:
        """Settle when the next periodic dump is due."""
        every = self._job.settings.every
        seconds = self._interval.seconds() if every.chosen else every.seconds
        if seconds > 0:
            self._job.loop.after("every", seconds, self._every)
        if every.chosen:
            self._interval.ran = self._job.loop.now() - self._began
            self._job.ledger.write(every={"seconds": seconds, "why": self._interval.why()})

    def _every(self) -> None:
        self.plan_periodic()
        # Before the first step there is nothing of worth: what ckptd does by itself waits for that.
        trains = bool(self._job.ledger.record.extra.get("step")) or not self._job.settings.every.chosen
        if self._job.attempt is not None and trains:
            self.periodic(self._job.attempt)

    def periodic(self, attempt: Attempt) -> None:
        """One is due: ask for it, or owe it."""
        attempt.forget_overdue(self._job.loop.now())
        attempt.owed = not attempt.may_ask_periodic()
        if not attempt.owed and not self.hindrance(attempt) and attempt.peer is not None:
            deadline = self._job.loop.now() + max(self._job.settings.grace, PERIODIC_SECONDS)
            self._job.server.send(attempt.peer, attempt.ask("periodic", deadline, leave=False))
            self._job.news.tell("asked", reason="periodic", leave=False)

    def ask_to_leave(self, attempt: Attempt, reason: str, deadline: float | None = None) -> None:
        """Ask for a dump with which the process leaves; by when, else by the grace.

        ``reason``: 'signal', 'stop', 'notice' or DRILL.
        """
        if attempt.peer is None:
            return
        if why := self.hindrance(attempt):
            self._stay_unsaved(attempt, why)
            return
        if deadline is None:
            deadline = self._job.loop.now() + self._job.settings.grace
        message = attempt.ask(reason, deadline, leave=True)
        self._job.server.send(attempt.peer, message)
        until = attempt.requests[message.dump].until
        self._job.loop.at("deadline", until, lambda: self._end_now(attempt))
        self._job.hurry(urgent=True)
        self._job.writer.hurry()
        self._job.ledger.enter(states.DUMPING)
        self._job.news.tell("asked", reason=reason, leave=True)

    def copying(self, attempt: Attempt, message: protocol.Copying) -> None:
        """A copy to leave with has begun: the disk may begin, too."""
        request, segment = attempt.requests.get(message.dump), Path(message.segment)
        if request is None or not request.leave or not self._job.segments.holds(segment):
            self._job.server.nonsense += 1
        elif attempt.status is None and not attempt.following:
            attempt.following = True
            self._job.writer.follow(message.dump, segment)

    def dumped(self, attempt: Attempt, message: protocol.Dumped) -> None:
        """A copy is complete."""
        request = attempt.answer(message.dump)
        segment = Path(message.segment)
        if not self._job.segments.holds(segment):
            self._job.server.nonsense += 1
            if request is not None:
                self._unsaved(attempt, request, f"there is no segment {message.segment}")
            return
        if request is None:
            self._job.server.nonsense += 1
            if message.dump not in attempt.answered:
                segment.unlink(missing_ok=True)  # shared memory: no disk to wait for
            return
        attempt.writing += 1
        attempt.following = False
        self._copied = self._job.loop.now()
        self._job.news.tell("copied", step=message.step, seconds=message.seconds, leave=request.leave)
        if request.leave and self._job.ledger.state == states.DUMPING:
            self._job.ledger.enter(states.SAVING)
        self._job.writer.save(
            Saving(
                dump=message.dump, segment=segment, step=message.step, reason=request.reason,
                attempt=attempt.number, seconds=max(0.0, message.seconds), leave=attempt.leave is not None,
                rest=self._rest(attempt, request),
            ),
        )  # fmt: skip
        self._job.voice.detail(
            f"step {message.step} copied, training stood still for {message.seconds:.3f} s", "copied",
            step=message.step, seconds=message.seconds, leave=request.leave,
        )  # fmt: skip

    def _rest(self, attempt: Attempt, request: Request) -> float:
        """For how long the writer may rest in all: nobody waits, and the next one is not held up by it."""
        if request.reason != "periodic" or attempt.leave is not None or attempt.status is not None:
            return 0.0
        every = self._job.settings.every
        seconds = self._interval.seconds() if every.chosen else every.seconds
        return min(REST_SECONDS, REST_PART * (seconds or every.steps * attempt.step_seconds))

    def adopt(self, attempt: Attempt) -> None:
        """The process is gone: take the dump that it had completed but could not tell us of."""
        for copy in self._job.segments.complete() if attempt.requests else []:
            if copy.dump in attempt.requests:
                self.dumped(attempt, protocol.Dumped(copy.dump, str(copy.path), copy.step, 0.0))

    def undumped(self, attempt: Attempt, message: protocol.Undumped) -> None:
        """There will be no copy."""
        self._job.writer.give_up()
        attempt.following = False
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
        self._job.news.tell("unsaved", why=why, leave=request.leave)
        for then in self._granted.pop(request.dump, []):
            then({}, DumpFailedError(f"could not save: {why}; training goes on"))
        if not request.leave and self._job.settings.every.chosen:
            self._interval.failed += 1
            self.plan_periodic()
        if attempt.status is not None:
            self._job.voice.warn(f"the last dump could not be saved: {why}", "unsaved", why=why)
            return
        if not request.leave or attempt.leave is not request:
            # What ckptd does by itself it says once.
            known, self._unsaved_why = why == self._unsaved_why, why
            tell_it = (
                self._job.voice.detail if known and self._job.settings.every.chosen else self._job.voice.warn
            )
            tell_it(f"could not save: {why}; training goes on", "unsaved", why=why)
            return
        self._stay_unsaved(attempt, why)

    def _stay_unsaved(self, attempt: Attempt, why: str) -> None:
        """The process was to leave, and can't be saved: it stays."""
        again = (
            f"; {signal_name(self._job.stop.signal)} again ends it unsaved" if self._job.stop.signal else ""
        )
        self._job.voice.warn(f"could not save: {why}; training goes on{again}", "unsaved", why=why)
        self._job.stop.failed, self._job.stop.signal = bool(self._job.stop.signal), 0
        self.stay(attempt)

    def stay(self, attempt: Attempt) -> None:
        """The process goes on after all."""
        attempt.stay()
        self._job.writer.calm()
        self._job.loop.cancel("deadline")
        if self._job.ledger.state != states.RUNNING:
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
        if attempt.status is None:
            if attempt.leave is None and not self._wishes:
                self._job.writer.calm()
            self.grant(attempt)

    def _committed(self, attempt: Attempt, done: Committed) -> None:
        saving, manifest = done.saving, done.manifest
        self._job.newest = Base(done.path, manifest)
        self._job.offer(self._job.newest)
        self._job.hurry(urgent=attempt.status is None and attempt.leave is not None and not saving.leave)
        if attempt.peer is not None:
            saved = protocol.Saved(dump=saving.dump, checkpoint=str(done.path), step=saving.step)
            self._job.server.send(attempt.peer, saved)
        attempt.saved = attempt.saved or saving.leave
        self._interval.dumped(saving.seconds, self._job.loop.now() - self._copied - done.rested)
        if self._job.settings.every.chosen and attempt.status is None:
            self.plan_periodic()
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
        facts = {
            "step": saving.step, "checkpoint": manifest.id, "nbytes": manifest.nbytes, "seconds": saving.seconds,
            "leave": saving.leave,
        }  # fmt: skip
        if saving.leave:
            stop = self._job.stop
            cause = stop.cause or (signal_name(stop.signal) if stop.signal else attempt.notice)
            self._job.voice.say(f"{cause}: {text}" if cause else text, "durable", **facts)
        else:
            self._job.voice.detail(text, "durable", **facts)
        self._job.news.tell("durable", step=saving.step, checkpoint=manifest.id, leave=saving.leave)
        self._thank(saving, {"checkpoint": manifest.id, "step": saving.step, "nbytes": manifest.nbytes})
        if done.said:
            self._job.voice.say(done.said)
        self._job.writer.retain()

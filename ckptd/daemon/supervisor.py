"""The supervisor of one job: what is done about each thing that happens.

The loop (ckptd.daemon.loop) calls in; whatever may wait for a disk goes to a thread (ckptd.daemon.writer);
what follows the end of an attempt is decided in ckptd.daemon.policy.
"""

from __future__ import annotations

import os
import signal
from dataclasses import asdict
from typing import Any

from ckptd import states
from ckptd.daemon import forward, launch, policy, processes
from ckptd.daemon.attempt import Attempt
from ckptd.daemon.context import Context
from ckptd.daemon.conversation import Conversation
from ckptd.daemon.desk import Acts, Desk
from ckptd.daemon.dumps import Dumps
from ckptd.daemon.notices import Notices, listen
from ckptd.daemon.processes import ProcessId
from ckptd.daemon.resume import Base
from ckptd.daemon.stopping import Stopping
from ckptd.daemon.sweep import Sweep
from ckptd.daemon.table import row_of
from ckptd.daemon.takeover import Takeover
from ckptd.daemon.worker import Done
from ckptd.errors import CkptdError, RefusedError

SETTLE = 0.05
"""Seconds for what the agent said last to arrive, after the process is gone."""
PUBLISH = 2.0
"""Seconds between words to who reads its figures."""
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
HANDLED = forward.ALL | {signal.SIGCHLD}


class Supervisor:
    """Starts the program, keeps it, and says in ``exit_status`` when it is done."""

    def __init__(self, context: Context, orphan: ProcessId | None = None) -> None:
        self._job = context
        self._sweep = Sweep(context.loop, context.tree, self._reap, context.voice.say)
        self._dumps = Dumps(context, self._end_now)
        self._talk = Conversation(context, self._dumps, self._end_now)
        self._stopping = Stopping(context, self._dumps, self._end_now, self._finish)
        self._notices = Notices(
            context, self._dumps, self._stopping.by_notice, self._stopping.take_back,
            lambda: listen(context.settings.notices),
        )  # fmt: skip
        self._desk = Desk(
            context, self._talk, self._dumps, self._notices, Acts(self._stopping.by_user, self._facts)
        )
        self._left = Takeover(context, orphan, lambda attempt: self._exited(attempt, -signal.SIGKILL))
        self.exit_status: int | None = None
        self.error: CkptdError | None = None
        """Why it ended, if that is an error to be reported."""
        self._restarts = 0
        self._restart_step = -1
        self._damaged: Attempt | None = None
        """The last that found its checkpoint to be other than what was written."""
        context.loop.watch(context.writer.fileno(), self.on_writer)
        context.loop.watch(context.ledger.fileno(), self.on_ledger)
        context.loop.watch(context.signals.fileno(), self.on_signals)

    def run(self) -> int:
        """Run the job to its end; returns the exit status. Raises CkptdError."""
        self._job.ledger.write(listens={"pid": os.getpid(), "at": self._job.place.endpoint})
        self._notices.begin()
        self._publish()
        self._left.save_copies()
        if self._left.has_finished():
            self._job.ledger.enter(states.CHECKING)
            self._finish_lost()
        else:
            self.check()
        while self.exit_status is None:
            self._job.loop.turn()
            if self._job.service is not None:
                self._job.service.look()
        if self.error:
            raise self.error
        return self.exit_status

    def close(self) -> None:
        """Once all that was saved is where it belongs."""
        self._notices.close()

    # ---- before a start -------------------------------------------------------------------------

    def check(self, *, read: bool = False) -> None:
        """Find out from where to start; ``_checked`` goes on.

        ``read``: verify every byte first. Else the agent does while it resumes.
        """
        # Before any start: whoever finds the program without us has to know where it looks for us.
        here = {"host": os.uname().nodename, "endpoint": self._job.place.endpoint}
        self._job.ledger.enter(states.CHECKING, **here)
        allow = self._job.settings.allow_changed
        self._job.writer.find_base(allow, self._job.settings.from_step, read=read)

    def _checked(self, done: Done) -> None:
        if done.error is not None or not isinstance(done.value, Base):
            self._fail(done.error)
            return
        base = done.value
        if self._damaged is not None and base.path is not None and base.path == self._damaged.base.path:
            # Every byte is what was written, and yet it can't be used: that would go on for ever.
            self._fail(RefusedError(self._damaged.refused))
            return
        for note in base.notes:
            self._job.voice.say(note)
        if base.path is not None:
            if self._job.newest is None:
                self._job.voice.say(
                    f"job {self._job.ledger.record.name} goes on from step {base.step} "
                    f"(checkpoint {base.manifest.id if base.manifest else ''}); --fresh starts over"
                )
                self._restart_step = base.step
            self._job.newest = base
        if self._left.adopt(base):
            self._talk.begin()
            return
        if self._left.has_finished():  # just now
            self._finish_lost()
            return
        # Were we killed between the start and a note of it, another ckptd would start the program once more.
        self._job.ledger.once_written(lambda: self._start(base))

    def _start(self, base: Base) -> None:
        if self._job.stop.signal:
            self._stopping.without_process()
            return
        try:
            self._launch(base)
        except CkptdError as error:
            self._fail(error)

    def _finish_lost(self) -> None:
        self._job.voice.say("the job came to its end while its ckptd was gone; its exit status is not known")
        self._finish(0, states.FINISHED)

    def _launch(self, base: Base) -> None:
        record = self._job.ledger.record
        number = record.attempt + 1
        self._job.segments.clear(keep=base.memory)
        self._job.ledger.write(pid=None, note="")
        start = launch.Attempt(
            job=record.id, number=number, endpoint=self._job.place.endpoint, segments=self._job.segments.path,
            hashseed=base.hashseed or record.hashseed, resume=base.path,
            memory=base.memory, spill=self._job.segments.spill,
        )  # fmt: skip
        env = launch.environment(os.environ, start, self._job.settings)
        command = self._job.command
        pid = processes.spawn(command.path, command.argv, env, self._job.signals.mask)
        self._job.tree.begin(pid)
        if command.why and self._job.newest is None:
            self._job.voice.say(command.why)
        self._job.attempt = Attempt(number, pid, base, command.reachable)
        self._job.terminal.begin(pid)
        process = processes.process_id(pid)
        self._job.segments.belong_to(process)
        self._job.ledger.enter(states.STARTING, attempt=number, pid=pid, started=process.started)
        self._job.voice.detail(
            f"attempt {number} of job {record.id} runs as process {pid}", "spawned", attempt=number, pid=pid
        )
        self._job.news.tell("spawned", attempt=number, pid=pid, step=base.step)

    def _facts(self) -> dict[str, Any]:
        """For whoever asks how the job fares."""
        attempt = self._job.attempt
        return {
            **asdict(row_of(self._job.folder)),
            "supervisor": os.getpid(),
            "grace": self._job.settings.grace,
            "agent": attempt.agent_pid if attempt is not None and attempt.hello else None,
            "stopping": self._job.stop.cause or bool(self._job.stop.signal),
            "on_notice": self._job.settings.on_notice,
            "notices": [asdict(each) for each in self._notices.health()],
            "standing": [asdict(each) for each in self._notices.standing()],
            "extra": self._job.ledger.record.extra,
            "figures": self._job.figures.as_map(),
        }

    def _publish(self) -> None:
        """Say how the job fares to whoever reads its figures: without a look at the disk."""
        exporter, record = self._job.exporter, self._job.ledger.record
        if exporter is None:
            return
        exporter.jobs = [
            {
                **record.extra, "id": record.id, "name": record.name, "state": self._job.ledger.state,
                "attempt": record.attempt, "created": record.created, "extra": record.extra,
                "figures": self._job.figures.as_map(),
            }
        ]  # fmt: skip
        exporter.sources = [asdict(each) for each in self._notices.health()]
        self._job.loop.after("metrics", PUBLISH, self._publish)

    def _fail(self, error: Exception | None) -> None:
        """There is no start."""
        if not isinstance(error, CkptdError):
            error = CkptdError(f"can't look for a checkpoint: {type(error).__name__}: {error}")
        self.error = error
        state = states.REFUSED if isinstance(error, RefusedError) else states.FAILED
        self._finish(error.status, state, why=str(error))

    def on_ledger(self) -> None:
        """The record was written, or not."""
        if why := self._job.ledger.collect():
            self._job.voice.say(why)

    def on_writer(self) -> None:
        """A check, a commit or a retention is over."""
        for done in self._job.writer.results():
            if done.tag == "base":
                self._checked(done)
            elif done.tag == "retained":
                said = [str(done.error)] if done.error else done.value
                for sentence in said if isinstance(said, list) else []:
                    self._job.voice.say(sentence)
            elif self._left.saved(done):
                continue
            elif self._job.attempt is not None and done.tag.startswith("saved:"):
                attempt = self._job.attempt
                self._dumps.written(attempt, done)
                if attempt.status is not None:
                    self._conclude(attempt)

    # ---- signals to ckptd -----------------------------------------------------------------------

    def on_signals(self) -> None:
        """Signals have arrived."""
        for number in self._job.signals.read():
            if number == signal.SIGCHLD:
                self._reap()
            elif number in STOP_SIGNALS or number in self._job.settings.notice_signals:
                self._stopping.by_signal(number)
            elif self._job.attempt is not None and self._job.attempt.status is None:
                forward.hand_on(self._job.attempt.pid, number)
                if number == signal.SIGTSTP:
                    self._suspend()

    def _suspend(self) -> None:
        """Stop with the job, as one job to the shell; this returns when the shell lets us go on."""
        os.kill(os.getpid(), signal.SIGSTOP)
        self._job.terminal.continued()

    # ---- the end of an attempt ------------------------------------------------------------------

    def _reap(self) -> None:
        attempt = self._job.attempt
        for pid, status, stop in processes.reap():
            if attempt is None or pid != attempt.pid or attempt.status is not None:
                continue
            if status is not None:
                self._exited(attempt, status)
            elif self._job.terminal.stopped(stop):
                self._suspend()

    def _exited(self, attempt: Attempt, status: int) -> None:
        attempt.status = status
        self._job.writer.give_up()
        self._job.writer.hurry()
        self._job.news.tell("exited", status=status)
        self._job.hurry(urgent=bool(attempt.writing))
        self._job.terminal.take_back()
        for name in ("deadline", "every"):
            self._job.loop.cancel(name)
        if attempt.reachable or attempt.hello:
            self._job.loop.after("settle", SETTLE, lambda: self._conclude(attempt))
        else:
            self._conclude(attempt)

    def _end_now(self, attempt: Attempt) -> None:
        """The process should be gone by now: kill the tree."""
        if attempt is not self._job.attempt or attempt.status is not None:
            return
        attempt.killed = True
        self._job.loop.cancel("deadline")

        def unreaped() -> None:
            # A process in uninterruptible sleep can't be waited for: go on without it.
            if attempt.status is None:
                attempt.finished |= self._job.segments.finished(attempt.number)
                self._exited(attempt, -signal.SIGKILL)

        self._sweep.begin(gentle=0.0, then=unreaped)

    def _conclude(self, attempt: Attempt) -> None:
        """The process is gone and has said its last: decide, once its copies are durable."""
        if attempt is not self._job.attempt or attempt.status is None:
            return
        self._dumps.adopt(attempt)
        if attempt.writing:
            if self._job.ledger.state != states.SAVING:
                self._enter_ending(attempt)
                self._job.ledger.enter(states.SAVING)
            return
        self._enter_ending(attempt)
        newest, stop = self._job.newest, self._job.stop
        end = attempt.ending(
            stopping=stop.signal != 0,
            passed_on=stop.passed_on,
            has_checkpoint=newest is not None,
            progressed=newest is not None and newest.step > self._restart_step,
        )
        settings = self._job.settings
        decision = policy.decide(
            end,
            restarts=self._restarts,
            max_restarts=settings.max_restarts,
            base_delay=settings.restart_delay,
        )
        self._job.attempt = None
        self._dumps.disappoint("the program ended before it could be saved")

        def follow() -> None:
            if decision.relaunch and attempt.damaged:
                self._job.newest = None
                self._damaged = attempt
                self.check(read=True)
            elif decision.relaunch:
                self._relaunch(decision)
            else:
                self._end(decision)

        if decision.relaunch or decision.state in (states.STOPPED, states.REFUSED):
            self._sweep.begin(gentle=1.0, then=follow)  # nothing of an interrupted attempt may be left
        else:
            follow()  # what it left running is as plain Python would leave it

    def _enter_ending(self, attempt: Attempt) -> None:
        if self._job.ledger.state != states.ENDING:
            self._job.ledger.enter(states.ENDING, exit_status=attempt.status)

    def _relaunch(self, decision: policy.Decision) -> None:
        newest = self._job.newest
        self._restarts = decision.restarts
        self._restart_step = newest.step if newest is not None else -1
        if self._job.stop.signal:
            self._job.ledger.enter(states.BACKOFF)
            self._stopping.without_process()
            return
        where = f"from step {newest.step}" if newest is not None else "from the start"
        if decision.why:
            self._job.voice.warn(
                f"{decision.why}: relaunching {where} in {decision.delay:g} s "
                f"(restart {decision.restarts} of {self._job.settings.max_restarts})",
                "relaunching", why=decision.why, restarts=decision.restarts, delay=decision.delay,
            )  # fmt: skip
        else:
            self._job.voice.detail(f"relaunching {where}", "relaunching")
        if decision.delay > 0:
            self._job.ledger.enter(states.BACKOFF, why=decision.why)
            self._job.loop.after("relaunch", decision.delay, self.check)
        else:
            self.check()

    def _end(self, decision: policy.Decision) -> None:
        if decision.state == states.REFUSED:
            self.error = RefusedError(decision.why)
        elif decision.why:
            self._job.voice.warn(decision.why)
        if decision.state == states.STOPPED:
            self._stopping.say_stopped()
        self._finish(decision.status, decision.state, why=decision.why)

    def _finish(self, status: int, state: str, why: str = "") -> None:
        self.exit_status = status
        self._job.news.tell("over", status=status, state=state)
        self._job.ledger.enter(state, why=why)

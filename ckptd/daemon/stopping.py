"""Requests to end the job: signals to ckptd, users' commands, and notices; and what if one is taken back."""

from __future__ import annotations

import signal
from collections.abc import Callable

from ckptd import states
from ckptd.daemon import forward, policy
from ckptd.daemon.attempt import Attempt
from ckptd.daemon.context import Context, Stop
from ckptd.daemon.dumps import Dumps
from ckptd.errors import STOPPED

GREETING = 0.1
"""Seconds for a Hello that is on its way, before a signal is taken to be the program's."""
RETURN = 5.0
"""The same where there was an agent, which has lost the ckptd that was killed: it tries ten times a second."""


class Stopping:
    """Ends the job in good order. ``end_now`` ends the attempt's processes; ``finish`` is the end of ckptd."""

    def __init__(
        self,
        context: Context,
        dumps: Dumps,
        end_now: Callable[[Attempt], None],
        finish: Callable[[int, str], None],
    ) -> None:
        self._job, self._dumps, self._end_now, self._finish = context, dumps, end_now, finish

    def by_signal(self, number: int) -> None:
        """A signal to ckptd: save and leave; a second SIGINT, or one after a dump that failed, ends it unsaved."""
        attempt, stop = self._job.attempt, self._job.stop
        first = not stop.signal and not stop.failed
        stop.signal, stop.revocable = stop.signal or number, False
        stop.deadline = stop.deadline or self._job.loop.now() + self._job.settings.grace
        if attempt is None or attempt.status is not None:
            if self._job.ledger.state == states.BACKOFF:
                self.without_process()
            elif attempt is not None and attempt.writing and number == signal.SIGINT and not first:
                self._abandon(attempt)
        elif first and attempt.reachable and not attempt.hello:
            # With its Hello the agent is asked to leave.
            patience = RETURN if attempt.adopted else GREETING
            self._job.loop.after("greeting", patience, lambda: self._hand_on(attempt, number))
        elif not attempt.hello or (number == signal.SIGINT and not first):
            stop.passed_on = attempt.hello  # where there is no agent the signal is the program's anyway
            self._job.loop.cancel("deadline")  # whoever gives up waiting leaves the end to the program
            forward.hand_on(attempt.pid, number)
        elif first and attempt.leave is None:
            self._dumps.ask_to_leave(attempt, "stop")
        elif stop.failed:
            self._end_now(attempt)
        elif first:
            self._not_later(attempt)

    def _hand_on(self, attempt: Attempt, number: int) -> None:
        """No agent has come: the signal is the program's."""
        if attempt is self._job.attempt and attempt.status is None and not attempt.hello:
            forward.hand_on(attempt.pid, number)

    def by_user(self, grace: float | None, unsaved: bool) -> None:
        """``ckptd stop``. ``grace``: seconds from now; None: the settings'."""
        attempt, stop = self._job.attempt, self._job.stop
        if unsaved and attempt is not None and attempt.status is None:
            stop.signal, stop.cause = stop.signal or signal.SIGTERM, "ckptd stop --unsaved"
            self._end_now(attempt)
        elif grace is None:
            self.by_signal(signal.SIGTERM)
        else:
            self.by_notice("ckptd stop", self._job.loop.now() + grace, revocable=False)

    def by_notice(self, cause: str, deadline: float | None, *, revocable: bool = True) -> None:
        """The job has to go by ``deadline`` (of the loop's clock; None: by the grace)."""
        attempt, stop = self._job.attempt, self._job.stop
        if attempt is None or attempt.status is not None:
            self._mark(cause, deadline, revocable)
            if self._job.ledger.state == states.BACKOFF:
                self.without_process()
        elif attempt.adopted and not attempt.hello:
            self._mark(cause, deadline, revocable)  # with its Hello the agent is asked to leave
        elif not attempt.hello:
            # A signal would end the program unsaved, which whoever gave the notice will do soon enough.
            self._job.voice.say(f"{cause}: nothing can be saved yet")
        elif attempt.leave is None:
            self._mark(cause, deadline, revocable)
            stop.failed = False
            self._dumps.ask_to_leave(attempt, "notice", deadline)
        else:
            # It is leaving already, perhaps to be started again: not any more, and not later than this.
            self._mark(cause, deadline, revocable)
            self._not_later(attempt)

    def _not_later(self, attempt: Attempt) -> None:
        """It leaves already, for a reason that left it more time."""
        if attempt.leave is not None and self._job.stop.deadline < attempt.leave.until:
            self._job.loop.at("deadline", self._job.stop.deadline, lambda: self._end_now(attempt))

    def _mark(self, cause: str, deadline: float | None, revocable: bool) -> None:
        stop = self._job.stop
        stop.revocable = revocable and (stop.revocable or not stop.signal)
        stop.signal, stop.cause = stop.signal or signal.SIGTERM, stop.cause or cause
        until = self._job.loop.now() + self._job.settings.grace if deadline is None else deadline
        stop.deadline = min(stop.deadline or until, until)

    def take_back(self) -> None:
        """No notice stands any more. What is leaving can't be kept, but it is started again at once."""
        if not self._job.stop.revocable:
            return  # somebody else wants it to end
        cause, self._job.stop = self._job.stop.cause, Stop()
        if self._job.attempt is not None and self._job.attempt.leave is not None:
            self._job.attempt.notice = cause

    def _abandon(self, attempt: Attempt) -> None:
        """The user doesn't want to wait for the disk either. What isn't committed is as if never begun."""
        self._job.voice.warn("gave up waiting for the disk: the last dump is lost", "unsaved")
        if self._job.ledger.state != states.ENDING:
            self._job.ledger.enter(states.ENDING, exit_status=attempt.status)
        state = states.STOPPED if self._job.newest is not None else states.FAILED
        self._finish(policy.shell_status(attempt.status or 0), state)

    def without_process(self) -> None:
        """There is no program to save: this is the end."""
        self._job.loop.cancel("relaunch")
        if self._job.newest is not None:
            self.say_stopped()
            self._finish(STOPPED, states.STOPPED)
        elif self._job.ledger.state == states.BACKOFF:
            self._finish(policy.shell_status(self._job.ledger.record.exit_status or 0) or 1, states.FAILED)
        else:
            self._finish(policy.shell_status(-self._job.stop.signal), states.STOPPED)

    def say_stopped(self) -> None:
        """Where the job goes on the next time."""
        if self._job.newest is not None:
            self._job.voice.say(f"stopped; the same command goes on from step {self._job.newest.step}")

"""The jobs that a daemon keeps: finding the ckptd of each, starting one, and hearing from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import zmq

from ckptd import control, states
from ckptd.client import new_ask
from ckptd.daemon.forms import text_of
from ckptd.daemon.loop import Loop
from ckptd.daemon.voice import Voice
from ckptd.errors import CkptdError, UsageError
from ckptd.host.job import KeptJob, Link, settled
from ckptd.host.keeper import start_keeper
from ckptd.host.order import LOG, load_order
from ckptd.notices.event import Notice
from ckptd.store.layout import Store
from ckptd.store.lock import holder

MINDED = 10.0
"""Seconds for which a job relies on the daemon's listening in its place."""
LOOK = 0.05
"""Seconds between looks at a job that is being started."""


class Jobs:
    """All jobs for which there is an order on this host."""

    def __init__(
        self,
        store: Store,
        loop: Loop,
        context: zmq.Context[zmq.Socket[bytes]],
        voice: Voice,
        may_start: Callable[[], bool],
        gone: Callable[[], None],
    ) -> None:
        """``may_start``: whether jobs are to be started that nobody asks for; ``gone``: the ckptd of one has ended."""
        self._store, self._loop, self._context, self._voice = store, loop, context, voice
        self._may_start, self._gone = may_start, gone
        self._all: dict[str, KeptJob] = {}
        self.closed = False
        """Nothing is started any more."""

    def all(self) -> list[KeptJob]:
        """Those that were seen so far."""
        return list(self._all.values())

    def running(self) -> list[KeptJob]:
        """Those with a ckptd."""
        return [job for job in self._all.values() if job.keeper is not None]

    def tend_all(self) -> None:
        """See to each in the store."""
        for folder in self._store.jobs():
            self.tend(folder.id)

    def tend(self, job_id: str, asked: bool = False) -> KeptJob | None:
        """See to a job: find its ckptd, or start one if it should run, or if somebody ``asked`` for that.

        Returns the job if there is an order for it on this host.
        """
        folder = self._store.job(job_id)
        try:
            order = load_order(folder)
        except CkptdError as error:
            self._voice.say(str(error))
            return None
        if order is None or order.host != os.uname().nodename:
            return None
        job = self._all.setdefault(job_id, KeptJob(folder))
        if job.keeper is not None:
            return job
        owner = holder(folder)
        if owner is not None:
            if self._watch_keeper(job, owner.pid):
                self._voice.detail(f"job {job_id} runs under ckptd {owner.pid}")
            return job
        row = job.row()
        due = order.wanted and not settled(row) and self._may_start()
        if (asked or due) and not self.closed:
            try:
                self._watch_keeper(job, start_keeper(folder, order, self._store.path))
                self._voice.say(f"started job {row.name or job_id}", "started", job=job_id, name=row.name)
                job.failure = None
            except CkptdError as error:
                self._voice.warn(str(error), "failed", job=job_id, name=row.name)
                job.failure = error
        return job

    def _tend_later(self, job: KeptJob, seconds: float) -> None:
        def tend() -> None:
            self.tend(job.id)

        self._loop.after(f"tend:{job.id}", seconds, tend)

    def _watch_keeper(self, job: KeptJob, keeper: int) -> bool:
        try:
            job.watched = os.pidfd_open(keeper)
        except ProcessLookupError:
            self._tend_later(job, LOOK)
            return False
        job.keeper, job.since = keeper, self._loop.now()
        self._loop.watch(job.watched, lambda: self._keeper_gone(job))
        self._connect(job)
        return True

    def _connect(self, job: KeptJob) -> None:
        """Once its ckptd has said where it listens."""
        if job.keeper is None or job.link is not None:
            return
        endpoint = job.endpoint()
        if endpoint:
            job.link = Link(self._context, endpoint)
            self._loop.watch(job.link.socket, lambda: self._on_link(job))
            self.mind(job, [])
        else:
            self._loop.after(f"connect:{job.id}", LOOK, lambda: self._connect(job))

    def _keeper_gone(self, job: KeptJob) -> None:
        status = reap(job.keeper)
        self._loop.forget(job.watched)
        if job.link is not None:
            self._loop.forget(job.link.socket)
        job.release()
        row = job.row()
        if row.state in states.LIVE or row.state == states.LOST:
            delay = job.died(self._loop.now())
            self._voice.say(
                f"the ckptd of job {row.name or job.id} has died: starting another in {delay:g} s"
            )
            self._tend_later(job, delay)
        else:
            self._voice.say(
                f"job {row.name or job.id}: {row.state}{f', {row.why}' if row.why else ''}", "over",
                job=job.id, name=row.name, state=row.state, status=status,
            )  # fmt: skip
            self._answer(job, _why_not(job, status))
        self._gone()

    def _on_link(self, job: KeptJob) -> None:
        for message in job.link.receive() if job.link is not None else []:
            if isinstance(message, control.Reply) and not message.status and message.facts:
                job.facts = message.facts

    def mind(self, job: KeptJob, standing: Iterable[Notice]) -> None:
        """Tell a job that the daemon is there, and what was announced."""
        if job.link is not None:
            job.link.send(control.Mind(new_ask(), MINDED))
            for notice in standing:
                job.hand_on(notice)

    def await_start(self, job: KeptJob, answer: Callable[[CkptdError | None], None], until: float) -> None:
        """Answer when the job runs, has ended, or ``until`` has come."""
        if job.keeper is None:
            answer(job.failure or UsageError(f"job {job.id} is {job.row().state}, and was not started"))
            return
        job.waiting.append(answer)
        self._look_for_start(job, until)

    def _look_for_start(self, job: KeptJob, until: float) -> None:
        row = job.row()
        if row.state in states.WITH_PROCESS and row.supervisor is not None:
            self._answer(job, None)
        elif job.waiting and self._loop.now() < until:
            self._loop.after(f"start:{job.id}", LOOK, lambda: self._look_for_start(job, until))
        elif job.waiting:
            self._answer(job, None)

    def _answer(self, job: KeptJob, error: CkptdError | None) -> None:
        waiting, job.waiting = job.waiting, []
        for answer in waiting:
            answer(error)


def reap(pid: int | None) -> int | None:
    """The exit status of a child that has ended; None if it was the child of an earlier daemon."""
    try:
        _, raw = os.waitpid(pid or -1, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(raw)


def _why_not(job: KeptJob, status: int | None) -> CkptdError | None:
    """Why a job that was just asked for has ended at once; None if it ended well."""
    if status == 0:
        return None
    try:
        lines = (job.folder.path / LOG).read_bytes()[-4000:].decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    said = [text for text in map(text_of, lines) if text]
    error = CkptdError(said[-1] if said else f"job {job.id} has ended: ckptd logs {job.id} has its output")
    error.status = status if status is not None and status > 0 else 1
    return error

"""The daemon of a store on this host: it starts jobs, finds them again, and hands notices on to them.

Each job has a ckptd of its own (ckptd.host.keeper), which does all that is done to the job. So the daemon has no
state that could be lost: orders and records are on the disk, and who runs is told by the locks that are held.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptd import control, states
from ckptd.client import new_ask
from ckptd.daemon.forms import text_of
from ckptd.daemon.loop import Loop, Signals
from ckptd.daemon.notices import acknowledge, listen
from ckptd.daemon.notify import Notifier
from ckptd.daemon.processes import process_id
from ckptd.daemon.server import Server
from ckptd.daemon.voice import Voice
from ckptd.errors import CkptdError, LockedError, UsageError
from ckptd.host.job import KeptJob, Link, settled
from ckptd.host.keeper import start_keeper
from ckptd.host.order import LOG, load_order
from ckptd.notices.event import LEAVE, Notice, make_room
from ckptd.store.layout import Store
from ckptd.store.lock import holder

if TYPE_CHECKING:
    from ckptd.metrics.exporter import Exporter

MIND = 2.0
"""Seconds between words to each job that the daemon is there."""
MINDED = 5 * MIND
"""Seconds for which a job relies on that."""
LOOK = 0.05
"""Seconds between looks at a job that is being started."""
START_SECONDS = 60.0
"""A job that has not begun by then is reported as slow; it goes on all the same."""
STOP_SECONDS = 60.0
"""Seconds beyond its grace in which a job that was told to stop has to be gone before the daemon leaves."""
EXTENSION = 15.0
"""Seconds that a service manager is asked for at a time."""
TURN = 64
"""Messages that are read before timers and signals get their turn."""
HANDLED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


class Daemon:
    """Runs until it is told to end. ``renew`` is set if that was to start itself anew."""

    def __init__(
        self,
        store: Store,
        server: Server,
        signals: Signals,
        voice: Voice,
        notices: str,
        notifier: Notifier,
        azure_ack: bool = False,
        exporter: Exporter | None = None,
    ) -> None:
        self._store, self._server, self._signals = store, server, signals
        self._voice, self._notifier = voice, notifier
        self.loop = Loop()
        self.jobs: dict[str, KeptJob] = {}
        self._standing: dict[tuple[str, str], Notice] = {}
        self._ending = False
        self._end_by = 0.0
        self.over = False
        self.renew = False
        self._azure_ack = azure_ack
        self._exporter = exporter
        self._status = ""
        self._watch = listen(notices)
        server.serve(self.loop, self._on_socket)
        self.loop.watch(signals.fileno(), self._on_signals)
        if self._watch is not None:
            self.loop.watch(self._watch.fileno(), self._on_watch)

    def run(self) -> None:
        """Until SIGTERM (all jobs are saved and stopped, and started again by the next daemon) or SIGHUP."""
        for folder in self._store.jobs():
            self._tend(folder.id)
        self._mind()
        self._notifier.ready()
        if self._notifier.watchdog_seconds:
            self._live()
        while not self.over:
            self.loop.turn()
        if self._watch is not None:
            self._watch.close()

    def _live(self) -> None:
        self._notifier.watchdog()
        self.loop.after("watchdog", self._notifier.watchdog_seconds / 2, self._live)

    # ---- jobs -----------------------------------------------------------------------------------

    def _tend(self, job_id: str, asked: bool = False) -> KeptJob | None:
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
        job = self.jobs.setdefault(job_id, KeptJob(folder))
        if job.keeper is not None:
            return job
        owner = holder(folder)
        if owner is not None:
            if self._watch_keeper(job, owner.pid):
                self._voice.detail(f"job {job_id} runs under ckptd {owner.pid}")
            return job
        row = job.row()
        due = order.wanted and not settled(row) and not self._must_go()
        if (asked or due) and not self._ending:
            try:
                self._watch_keeper(job, start_keeper(folder, order, self._store.path))
                self._voice.say(f"started job {row.name or job_id}", "started", job=job_id, name=row.name)
            except CkptdError as error:
                self._voice.warn(str(error), "failed", job=job_id, name=row.name)
                self._answer(job, error)
        return job

    def _tend_later(self, job: KeptJob, seconds: float) -> None:
        def tend() -> None:
            self._tend(job.id)

        self.loop.after(f"tend:{job.id}", seconds, tend)

    def _watch_keeper(self, job: KeptJob, keeper: int) -> bool:
        try:
            job.watched = os.pidfd_open(keeper)
        except ProcessLookupError:
            self._tend_later(job, LOOK)
            return False
        job.keeper, job.since = keeper, self.loop.now()
        self.loop.watch(job.watched, lambda: self._keeper_gone(job))
        self._connect(job)
        return True

    def _connect(self, job: KeptJob) -> None:
        """Once its ckptd has said where it listens."""
        if job.keeper is None or job.link is not None:
            return
        endpoint = job.endpoint()
        if endpoint:
            job.link = Link(self._server.context, endpoint)
            self.loop.watch(job.link.socket, lambda: self._on_link(job))
            self._mind_one(job)
        else:
            self.loop.after(f"connect:{job.id}", LOOK, lambda: self._connect(job))

    def _keeper_gone(self, job: KeptJob) -> None:
        status = _reap(job.keeper)
        self.loop.forget(job.watched)
        if job.link is not None:
            self.loop.forget(job.link.socket)
        job.release()
        row = job.row()
        if row.state in states.LIVE or row.state == states.LOST:
            delay = job.died(self.loop.now())
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
        if (
            self._azure_ack
            and self._watch is not None
            and not any(each.keeper for each in self.jobs.values())
        ):
            acknowledge(self._watch, self._standing.values())
        if self._ending:
            self._look_for_end()

    def _on_link(self, job: KeptJob) -> None:
        for message in job.link.receive() if job.link is not None else []:
            if isinstance(message, control.Reply) and not message.status and message.facts:
                job.facts = message.facts

    def _mind(self) -> None:
        for job in self.jobs.values():
            self._mind_one(job)
        self._tell_status()
        self._publish()
        self.loop.after("mind", MIND, self._mind)

    def _publish(self) -> None:
        """For who reads figures."""
        if self._exporter is not None:
            self._exporter.jobs = [job.facts for job in self.jobs.values() if job.facts]
            self._exporter.sources = self.facts()["notices"]

    def _tell_status(self) -> None:
        """For ``systemctl status``: how many run, and what was last heard of some of them."""
        rows = [job.row() for job in self.jobs.values() if job.keeper is not None]
        shown = [
            f"{row.name or row.id} {row.state}" + (f" step {row.step}" if row.step else "")
            for row in rows[:5]
        ]
        text = f"{len(rows)} {'job runs' if len(rows) == 1 else 'jobs run'}"
        text = "; ".join([text, *shown, *(["..."] if rows[5:] else [])])
        if text != self._status and self._notifier.status(text):
            self._status = text

    def _mind_one(self, job: KeptJob) -> None:
        if job.link is not None:
            job.link.send(control.Mind(new_ask(), MINDED))
            for notice in self._standing.values():
                job.hand_on(notice)

    # ---- requests -------------------------------------------------------------------------------

    def _on_socket(self) -> None:
        for _ in range(TURN):
            received = self._server.receive()
            if received is None:
                return
            peer, message = received
            if not isinstance(message, control.Request):
                self._server.nonsense += 1
                continue
            try:
                self._on_request(peer, message)
            except Exception as error:  # noqa: BLE001 - no message may be the end of the daemon
                self._server.nonsense += 1
                what = f"{type(error).__name__}: {error}"
                self._voice.say(f"a {type(message).__name__} could not be dealt with: {what}")

    def _on_request(self, peer: bytes, request: control.Request) -> None:
        try:
            facts = self._serve(peer, request)
        except CkptdError as error:
            self._server.send(peer, control.Reply(request.ask, error.status, str(error), {}))
            return
        if facts is not None:
            self._server.send(peer, control.Reply(request.ask, 0, "", facts))

    def _serve(self, peer: bytes, request: control.Request) -> dict[str, Any] | None:
        if isinstance(request, control.Look):
            return self.facts()
        if isinstance(request, control.Tell):
            from ckptd.daemon.desk import told

            notice = told(request)
            make_room(notice, self._standing)
            self._heard(notice)
            return {}
        if isinstance(request, control.Start):
            self._start(peer, request)
            return None
        raise UsageError("the daemon can't do that: the ckptd of a job may")

    def _start(self, peer: bytes, request: control.Start) -> None:
        if self._ending:
            raise LockedError("the daemon is stopping: start the job when it is back")
        known = self.jobs.get(request.job)
        if (known is not None and known.keeper is not None) or holder(
            self._store.job(request.job)
        ) is not None:
            raise LockedError(f"job {request.job} runs already: ckptd status {request.job}")
        job = self._tend(request.job, asked=True)
        if job is None:
            raise UsageError(
                f"there is no order for job {request.job} on this host: ckptd run --detach gives one"
            )

        def answer(error: CkptdError | None) -> None:
            facts = {"pid": job.keeper} if job.keeper is not None else {}
            status, text = (error.status, str(error)) if error is not None else (0, "")
            self._server.send(peer, control.Reply(request.ask, status, text, facts))

        job.waiting.append(answer)
        if job.keeper is None:
            self._answer(job, UsageError(f"job {request.job} is not to be started: it is {job.row().state}"))
        else:
            self._look_for_start(job, self.loop.now() + START_SECONDS)

    def _look_for_start(self, job: KeptJob, until: float) -> None:
        row = job.row()
        if row.state in states.WITH_PROCESS and row.supervisor is not None:
            self._answer(job, None)
        elif job.waiting and self.loop.now() < until:
            self.loop.after(f"start:{job.id}", LOOK, lambda: self._look_for_start(job, until))
        elif job.waiting:
            self._answer(job, None)

    def _answer(self, job: KeptJob, error: CkptdError | None) -> None:
        waiting, job.waiting = job.waiting, []
        for answer in waiting:
            answer(error)

    def facts(self) -> dict[str, Any]:
        """For whoever asks how the daemon fares."""
        return {
            "pid": os.getpid(),
            "jobs": {
                job.id: {"pid": job.keeper, **job.facts}
                for job in self.jobs.values()
                if job.keeper is not None
            },
            "notices": [asdict(each) for each in (self._watch.health() if self._watch is not None else [])],
            "standing": [asdict(each) for each in self._standing.values()],
            "ending": self._ending,
        }

    # ---- notices --------------------------------------------------------------------------------

    def _on_watch(self) -> None:
        for notice in self._watch.read() if self._watch is not None else []:
            self._heard(notice)

    def _heard(self, notice: Notice) -> None:
        key = (notice.source, notice.id)
        if notice.withdrawn and key not in self._standing:
            return
        self._voice.warn(
            f"notice{' withdrawn' if notice.withdrawn else ''}: {notice.text}",
            "withdrawn" if notice.withdrawn else "notice",
            source=notice.source, kind=notice.kind, id=notice.id,
        )  # fmt: skip
        if notice.withdrawn:
            self._standing.pop(key, None)
        else:
            self._standing[key] = notice
        for job in self.jobs.values():
            job.hand_on(notice)
        if notice.withdrawn and not self._must_go():
            for job in list(self.jobs.values()):
                if job.keeper is None:
                    self._tend(job.id)

    def _must_go(self) -> bool:
        """This machine goes away: a job that has left stays so."""
        return any(
            notice.kind == LEAVE and (notice.deadline is None or notice.deadline > self.loop.now())
            for notice in self._standing.values()
        )

    # ---- the end --------------------------------------------------------------------------------

    def _on_signals(self) -> None:
        for number in self._signals.read():
            if number == signal.SIGHUP:
                self.renew = self.over = True
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._end()

    def _end(self) -> None:
        """Save and stop all jobs. They stay wanted: the next daemon starts them again."""
        if self._ending:
            return
        self._ending = True
        self._voice.say("stopping: saving all jobs, which the next start of the daemon takes up again")
        self._notifier.stopping()
        for job in self.jobs.values():
            if job.keeper is not None and job.link is not None:
                job.link.send(control.Halt(new_ask(), None))
            elif job.keeper is not None:
                os.kill(job.keeper, signal.SIGTERM)
        self._end_by = (
            self.loop.now()
            + STOP_SECONDS
            + max((float(job.facts.get("grace") or 0.0) for job in self.jobs.values()), default=0.0)
        )
        self._ask_for_time()
        self._look_for_end()

    def _ask_for_time(self) -> None:
        self._notifier.extend(EXTENSION)
        self._look_for_end()
        if not self.over:
            self.loop.after("extend", EXTENSION / 3, self._ask_for_time)

    def _look_for_end(self) -> None:
        left = [job for job in self.jobs.values() if job.keeper is not None]
        if left and self.loop.now() > self._end_by:
            names = ", ".join(job.row().name or job.id for job in left)
            self._voice.say(f"not waiting any longer for {names}: the ckptd of each goes on to save it")
        self.over = not left or self.loop.now() > self._end_by


def _reap(pid: int | None) -> int | None:
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


def describe(store: Path, endpoint: str) -> dict[str, Any]:
    """What ``daemon.json`` in the store tells clients."""
    return {
        "pid": os.getpid(), "started": process_id(os.getpid()).started, "host": os.uname().nodename,
        "endpoint": endpoint, "since": time.time(), "store": str(store),
    }  # fmt: skip

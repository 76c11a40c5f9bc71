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

from ckptd import control
from ckptd.client import new_ask
from ckptd.daemon.dumps import Then
from ckptd.daemon.loop import Loop, Signals
from ckptd.daemon.notices import acknowledge, listen, release
from ckptd.daemon.notify import Notifier
from ckptd.daemon.processes import process_id
from ckptd.daemon.server import Server
from ckptd.daemon.voice import Voice
from ckptd.errors import CkptdError, LockedError, UsageError
from ckptd.host.jobs import Jobs
from ckptd.notices.event import LEAVE, Notice, make_room
from ckptd.store.layout import Store
from ckptd.store.lock import holder

if TYPE_CHECKING:
    from ckptd.metrics.exporter import Exporter

MIND = 2.0
"""Seconds between words to each job that the daemon is there."""
START_SECONDS = 60.0
"""A job that has not begun by then is reported as slow; it goes on all the same."""
STOP_SECONDS = 60.0
"""Seconds beyond its grace in which a job that was told to stop has to be gone before the daemon leaves."""
EXTENSION = 15.0
"""Seconds that a service manager is asked for at a time."""
EXPIRY = 60.0
"""Seconds behind its deadline after which what was announced is taken not to come."""
TURN = 64
"""Messages that are read before timers and signals get their turn."""
HANDLED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


class Daemon:
    """Runs until it is told to end. ``renew`` is set if that was to start itself anew."""

    def __init__(
        self, store: Store, server: Server, signals: Signals, voice: Voice, notices: str, notifier: Notifier,
        azure_ack: bool = False, exporter: Exporter | None = None,
    ) -> None:  # fmt: skip
        self._store, self._signals = store, signals
        self._voice, self._notifier = voice, notifier
        self.loop = Loop()
        self.jobs = Jobs(store, self.loop, server.context, voice, lambda: not self._must_go(), self._job_gone)
        self._going = False
        """What was announced had not come yet, at the last look."""
        self._standing: dict[tuple[str, str], Notice] = {}
        self._ending = False
        self._end_by = 0.0
        self.over = False
        self.renew = False
        self._azure_ack = azure_ack
        self._exporter = exporter
        self._status = ""
        self._watch = listen(notices)
        self.serve(server)
        self.loop.watch(signals.fileno(), self._on_signals)
        if self._watch is not None:
            self.loop.watch(self._watch.fileno(), self._on_watch)

    def run(self) -> None:
        """Until SIGTERM (all jobs are saved and stopped, and started again by the next daemon) or SIGHUP."""
        self.jobs.tend_all()
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

    def _mind(self) -> None:
        for job in self.jobs.running():
            self.jobs.mind(job, self._standing.values())
        self._look_for_reprieve()
        self._tell_status()
        self._publish()
        self.loop.after("mind", MIND, self._mind)

    def _publish(self) -> None:
        """For who reads figures."""
        if self._exporter is not None:
            self._exporter.jobs = [job.facts for job in self.jobs.running() if job.facts]
            self._exporter.sources = self.facts()["notices"]

    def _tell_status(self) -> None:
        """For ``systemctl status``: how many run, and what was last heard of some of them."""
        rows = [job.row() for job in self.jobs.running()]
        shown = [
            f"{row.name or row.id} {row.state}" + (f" step {row.step}" if row.step else "")
            for row in rows[:5]
        ]
        text = f"{len(rows)} {'job runs' if len(rows) == 1 else 'jobs run'}"
        text = "; ".join([text, *shown, *(["..."] if rows[5:] else [])])
        if text != self._status and self._notifier.status(text):
            self._status = text

    # ---- requests -------------------------------------------------------------------------------

    def serve(self, server: Server) -> None:
        """Answer on this socket."""
        server.serve(self.loop, lambda: self._on_socket(server))

    def _on_socket(self, server: Server) -> None:
        for _ in range(TURN):
            received = server.receive()
            if received is None:
                return
            peer, message = received
            if not isinstance(message, control.Request):
                server.nonsense += 1
                continue
            try:
                self._on_request(server, peer, message)
            except Exception as error:  # noqa: BLE001 - no message may be the end of the daemon
                server.nonsense += 1
                what = f"{type(error).__name__}: {error}"
                self._voice.say(f"a {type(message).__name__} could not be dealt with: {what}")

    def _on_request(self, server: Server, peer: bytes, request: control.Request) -> None:
        def reply(facts: dict[str, Any], error: CkptdError | None = None) -> None:
            status, text = (error.status, str(error)) if error is not None else (0, "")
            server.send(peer, control.Reply(request.ask, status, text, facts))

        try:
            server.check(request)
            facts = self._serve(request, reply)
        except CkptdError as error:
            reply({}, error)
            return
        if facts is not None:
            reply(facts)

    def _serve(self, request: control.Request, reply: Then) -> dict[str, Any] | None:
        if isinstance(request, control.Look):
            return self.facts()
        if isinstance(request, control.Tell):
            from ckptd.daemon.desk import told

            notice = told(request)
            make_room(notice, self._standing)
            self._heard(notice)
            return {}
        if isinstance(request, control.Start):
            self._start(request, reply)
            return None
        raise UsageError("the daemon can't do that: the ckptd of a job may")

    def _start(self, request: control.Start, reply: Then) -> None:
        if self._ending:
            raise LockedError("the daemon is stopping: start the job when it is back")
        if holder(self._store.job(request.job)) is not None:
            raise LockedError(f"job {request.job} runs already: ckptd status {request.job}")
        job = self.jobs.tend(request.job, asked=True)
        if job is None:
            raise UsageError(
                f"there is no order for job {request.job} on this host: ckptd run --detach gives one"
            )

        def answer(error: CkptdError | None) -> None:
            reply({"pid": job.keeper} if job.keeper is not None else {}, error)

        self.jobs.await_start(job, answer, self.loop.now() + START_SECONDS)

    def facts(self) -> dict[str, Any]:
        """For whoever asks how the daemon fares."""
        return {
            "pid": os.getpid(),
            "jobs": {job.id: {"pid": job.keeper, **job.facts} for job in self.jobs.running()},
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
        for job in self.jobs.running():
            job.hand_on(notice)
        self._look_for_reprieve()
        self._look_for_idle()

    def _look_for_reprieve(self) -> None:
        """What was announced was withdrawn, or its time has passed and we are still here: jobs that left come back."""
        now = self.loop.now()
        for key, notice in list(self._standing.items()):
            if notice.deadline is not None and notice.deadline + EXPIRY < now:
                del self._standing[key]
        before, self._going = self._going, self._must_go()
        if before and not self._going:
            self.jobs.tend_all()

    def _look_for_idle(self) -> None:
        """Nothing runs any more: what was announced may begin."""
        if self._watch is None or not self._must_go() or self.jobs.running():
            return
        release(self._watch)
        if self._azure_ack:
            acknowledge(self._watch, self._standing.values())

    def _job_gone(self) -> None:
        self._look_for_idle()
        if self._ending:
            self._look_for_end()

    def _must_go(self) -> bool:
        """This machine goes away: a job that has left stays so."""
        return any(notice.kind == LEAVE for notice in self._standing.values())

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
        self._ending = self.jobs.closed = True
        self._voice.say("stopping: saving all jobs, which the next start of the daemon takes up again")
        self._notifier.stopping()
        for job in self.jobs.running():
            if job.link is not None:
                job.link.send(control.Halt(new_ask(), None))
            elif job.keeper is not None:
                os.kill(job.keeper, signal.SIGTERM)
        self._end_by = (
            self.loop.now()
            + STOP_SECONDS
            + max((float(job.facts.get("grace") or 0.0) for job in self.jobs.running()), default=0.0)
        )
        self._ask_for_time()
        self._look_for_end()

    def _ask_for_time(self) -> None:
        self._notifier.extend(EXTENSION)
        self._look_for_end()
        if not self.over:
            self.loop.after("extend", EXTENSION / 3, self._ask_for_time)

    def _look_for_end(self) -> None:
        left = self.jobs.running()
        if left and self.loop.now() > self._end_by:
            names = ", ".join(job.row().name or job.id for job in left)
            self._voice.say(f"not waiting any longer for {names}: the ckptd of each goes on to save it")
        self.over = not left or self.loop.now() > self._end_by


def describe(store: Path, endpoint: str) -> dict[str, Any]:
    """What ``daemon.json`` in the store tells clients."""
    return {
        "pid": os.getpid(), "started": process_id(os.getpid()).started, "host": os.uname().nodename,
        "endpoint": endpoint, "since": time.time(), "store": str(store),
    }  # fmt: skip

"""``ckptd run``: from a command and settings to a supervisor at work, and everything put away after it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ckptd.daemon import launch, processes
from ckptd.daemon.context import Command, Context
from ckptd.daemon.forms import choose_form
from ckptd.daemon.ledger import Ledger
from ckptd.daemon.loop import Loop, Signals
from ckptd.daemon.names import Identity, identify, place_key
from ckptd.daemon.news import News
from ckptd.daemon.notify import Notifier
from ckptd.daemon.orphans import find_orphan, former_endpoint
from ckptd.daemon.places import Place, SegmentFolder
from ckptd.daemon.resume import same_command
from ckptd.daemon.server import Server
from ckptd.daemon.service import Service
from ckptd.daemon.supervisor import HANDLED, Supervisor
from ckptd.daemon.terminal import Terminal
from ckptd.daemon.voice import STDERR, Voice
from ckptd.daemon.writer import Writer, set_aside
from ckptd.errors import CkptdError, LockedError, RefusedError
from ckptd.metrics import export
from ckptd.settings import KEPT, Settings
from ckptd.store import layout
from ckptd.store.job import JobRecord
from ckptd.store.lock import JobLock
from ckptd.store.reader import list_checkpoints
from ckptd.store.retention import Policy
from ckptd.store.spilled import FOLDER as SPILLED
from ckptd.store.sweep import sweep

if TYPE_CHECKING:
    from ckptd.daemon.processes import ProcessId
    from ckptd.daemon.remotes import Joined

CLOSING_SECONDS = 30.0
"""How long the end of ckptd waits for a disk to take what is already decided."""


def run_job(argv: Sequence[str], settings: Settings, store: Path, keep: Policy) -> int:
    """Run a command under supervision, in the foreground; returns the exit status of ``ckptd run``.

    Raises:
        CkptdError: it can't be started, is refused, or what else its status says.
    """
    log = _log()
    kept = log != STDERR
    voice = Voice(settings.verbosity, log, choose_form(settings.log_format, log, os.environ, kept=kept))
    try:
        return _run_job(argv, settings, store, keep, voice)
    except CkptdError as error:
        if kept or voice.structured:
            voice.fail(str(error), error.status)
        # A kept job's output also shows why there is no more of it: unless another ckptd runs it, and goes on there.
        error.told = isinstance(error, LockedError) if kept else voice.structured
        raise


def _run_job(argv: Sequence[str], settings: Settings, store: Path, keep: Policy, voice: Voice) -> int:
    path = launch.resolve(argv)
    reach = launch.reach(path, argv)
    cwd = _working_folder()
    identity = identify(argv, cwd, settings.name)
    voice.about = {"job": identity.id, "name": identity.name}
    opened = layout.open_store(store)
    folder = opened.job(identity.id)
    with ExitStack() as stack:
        exporter = None
        if settings.metrics_port is not None:
            exporter = export(settings.metrics_port, opened)
            stack.callback(exporter.close)
            voice.say(f"figures at {exporter.url}", "figures", url=exporter.url)
        stack.enter_context(JobLock(folder))
        sweep(folder)
        old = folder.load() if (folder.path / layout.JOB_FILE).exists() else None
        joined = _join(folder, old, settings, voice)
        if joined is not None:
            stack.callback(joined.leave)
            old = joined.older_record(old, list(argv), cwd, folder, voice)
        orphan = _orphan(old, settings)
        record = _record(folder, identity, old, list(argv), cwd, settings)
        goes_on = old is not None and record.created == old.created and settings.from_step is None
        if joined is not None:
            joined.bring(folder, record, settings, voice)
            record = joined.begin(record)
        settings, record = _with_packages(folder, record, settings)
        key = place_key(identity.id, opened.path)
        place = Place(key, former_endpoint(record, os.uname().nodename) if orphan is not None else "")
        stack.callback(place.close)
        segments = SegmentFolder(key, folder.path / SPILLED, keep=goes_on)
        stack.callback(segments.close)
        server = Server(place, usual=2 if settings.kept else 1)  # the agent, and the daemon
        stack.callback(server.close)
        processes.become_subreaper()
        signals = stack.enter_context(Signals(HANDLED | set(settings.notice_signals)))
        terminal = Terminal()
        stack.callback(terminal.close)
        tree = processes.Tree()
        news = News(time.monotonic)
        news.listeners.append(voice.hear)
        ledger = Ledger(folder, record, news)
        stack.callback(ledger.close, CLOSING_SECONDS)
        writer = Writer(folder, identity.name, keep, squeeze=settings.squeeze, remember=segments.in_memory)
        stack.callback(writer.close, CLOSING_SECONDS)
        command = Command(list(argv), path, reach.reachable, reach.why)
        context = Context(
            command=command, settings=settings, folder=folder, ledger=ledger, loop=Loop(), server=server,
            place=place, segments=segments, writer=writer, signals=signals, terminal=terminal, voice=voice,
            tree=tree, news=news,
        )  # fmt: skip
        news.listeners.append(context.figures.hear)
        context.exporter = exporter
        supervisor = Supervisor(context, orphan)
        stack.callback(supervisor.close)
        if joined is not None:
            context.uploads = joined.uploads(keep)
            context.loop.watch(context.uploads.fileno(), context.hear_uploads)
            stack.callback(_see_off, context)
        notifier = Notifier()
        if notifier.listens:
            context.service = Service(context, notifier)
            stack.callback(context.service.leave, CLOSING_SECONDS)
        return supervisor.run()


def _log() -> int:
    """Where ckptd speaks: stderr, or the log that the daemon which started it has opened for it."""
    named = os.environ.pop(KEPT, "")
    if not named.isdigit():
        return STDERR
    os.set_inheritable(int(named), False)
    return int(named)


def _join(folder: layout.JobFolder, old: JobRecord | None, settings: Settings, voice: Voice) -> Joined | None:
    """Take the job at its remote, if it has one. Raises CkptdError."""
    known = old.extra.get("remote") if old is not None else None
    begun_with = known.get("url") if isinstance(known, dict) else None
    url = settings.remote or (begun_with if isinstance(begun_with, str) else "")
    if url in ("", "none"):
        return None
    from ckptd.daemon.remotes import join  # here, so that a job without a remote starts without all this

    return join(url, folder, settings, voice)


def _see_off(context: Context) -> None:
    """What is left of the grace, or else some time, for the last upload; Ctrl-C leaves it to the next start."""
    if context.uploads is None:
        return
    end = context.stop.deadline or context.loop.now() + CLOSING_SECONDS
    if not context.uploads.wait(min(1.0, end - context.loop.now())) and end - context.loop.now() > 1:
        seconds = f"{end - context.loop.now():.0f} s"
        context.voice.say(f"uploading the newest checkpoint, for up to {seconds}; Ctrl-C leaves it for later")
    asked = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    why = context.uploads.close(
        end - context.loop.now(),
        context.ledger.record,
        lambda: not asked.isdisjoint(context.signals.read()),
    )
    context.hear_uploads()
    if why:
        context.voice.say(why)


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return os.environ.get("PWD", "")  # it was removed: the program may still run in it


def _orphan(old: JobRecord | None, settings: Settings) -> ProcessId | None:
    """The program, where it still runs under a ckptd that is gone. Raises LockedError: it is in the way."""
    orphan = find_orphan(old, os.uname().nodename) if old is not None else None
    if old is None or orphan is None or (settings.kept and not settings.fresh and settings.from_step is None):
        return orphan
    raise LockedError(
        f"job {old.name} ({old.id}) still runs as process {orphan.pid}, though its ckptd is gone: "
        f"have the daemon look after it again (ckptd resume {old.id}), wait until it ends, or end it with "
        f"kill {orphan.pid}"
    )


def _record(
    folder: layout.JobFolder, identity: Identity, old: JobRecord | None, argv: list[str], cwd: str,
    settings: Settings,
) -> JobRecord:  # fmt: skip
    """The job's record: ``old`` for a run that goes on, or a new one. The lock must be held."""
    if old is None:
        return _new_record(identity, argv, cwd, attempt=0)
    back = settings.from_step is not None
    if not settings.fresh and not back and old.state == "finished" and identity.named:
        raise RefusedError(
            f"job {old.name!r} has finished: start it over with --fresh, or choose another --name"
        )
    if settings.fresh or (old.state == "finished" and not back):
        set_aside(folder)
        return _new_record(identity, argv, cwd, attempt=old.attempt)
    if not settings.allow_changed:
        same_command(old, argv, cwd)
    dropped = {"remote"} if settings.remote == "none" else set()
    extra = {name: value for name, value in old.extra.items() if name not in dropped}
    return replace(old, argv=argv, cwd=cwd, extra=extra)


def _with_packages(
    folder: layout.JobFolder, record: JobRecord, settings: Settings
) -> tuple[Settings, JobRecord]:
    """A job goes on with the packages instrumented that it was begun with. Raises RefusedError."""
    begun = tuple(str(name) for name in record.extra.get("instrument") or ())
    given = settings.instrument
    if given and set(given) != set(begun) and not settings.allow_changed and list_checkpoints(folder):
        was = " ".join(f"--instrument {name}" for name in begun) or "no --instrument"
        raise RefusedError(
            f"job {record.name!r} has checkpoints that were taken with {was}: leave out --instrument to go on with "
            "that, start over with --fresh, or resume all the same with --allow-changed"
        )
    names = given or begun
    extra = {**record.extra, "instrument": list(names)} if names else record.extra
    return replace(settings, instrument=names), replace(record, extra=extra)


def _new_record(identity: Identity, argv: list[str], cwd: str, attempt: int) -> JobRecord:
    # Sets of strings keep their order over a resume only with the same hash seed.
    hashseed = "" if os.environ.get("PYTHONHASHSEED") else str(int.from_bytes(os.urandom(4), "big"))
    return JobRecord(
        id=identity.id, name=identity.name, argv=argv, cwd=cwd, created=time.time(), named=identity.named,
        hashseed=hashseed, attempt=attempt,
    )  # fmt: skip

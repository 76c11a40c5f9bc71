"""One run of a program in a forked process: what it is told, and what the fork does."""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import sys
import time
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from fuzz.differences import files_in

RUN_SECONDS = 6.0
"""Processor time that one run of a random program may take."""
PATIENCE = 10
"""How many times as long it may take by the clock, on a machine that has other things to do."""


@dataclass
class Run:
    """One run of a program, in a process of its own."""

    mode: str
    """'plain', 'counted', 'stopped' (a dump at each of ``stops``, and on to the end) or 'resumed'."""
    path: str
    text: str
    place: Path
    """The folder that the program runs in."""
    out: Path
    """Where its stdout and stderr go, and the dumps."""
    report: int
    """Descriptor for lines of JSON that are not of the program."""
    trace: int
    """Descriptor for where the program is when its time is over."""
    stops: set[int] = field(default_factory=set)
    """Numbers of the safe points at which to dump, from 0."""
    segment: str = ""
    seconds: float = RUN_SECONDS
    """Processor time that it may take."""
    sleepless: bool = False
    """``time.sleep`` does nothing."""
    folder: str = ""
    """Where the program may import from."""
    instrument: str = ""
    """Installed packages that are rewritten, too, as for --instrument."""


class _Link:
    """Stands in for ckptd_agent.link."""

    def __init__(self, report: int) -> None:
        self.report = report

    def send(self, message: Any) -> None:
        """Nobody listens."""

    def refuse(self, why: str, *, damaged: bool = False) -> NoReturn:
        _write(self.report, refused=why)
        os._exit(14)


class _Opened:
    """Stands in for an OpenCheckpoint."""

    def __init__(self, path: str) -> None:
        from ckptd.memory.segment import Segment

        self.segment = Segment(Path(path))
        self.manifest = types.SimpleNamespace(facts=self.segment.index.facts)
        self.tensors = {each.name: each for each in self.segment.index.tensors}

    def graph(self) -> bytes:
        return bytes(self.segment.graph())

    def verify_rest(self) -> None:
        """It is in memory, and was written a moment ago."""

    def storage(self, name: str) -> memoryview:
        tensor = self.tensors[name]
        return self.segment.data()[tensor.offset : tensor.offset + tensor.nbytes]


def _write(report: int, **fields: Any) -> None:
    os.write(report, json.dumps(fields).encode() + b"\n")


class _Counter:
    """Counts possible safe points, and takes a dump at those that are asked for."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.passed = 0

    def __call__(self, loop: int, at_end: bool) -> None:
        from ckptd_agent import safepoint, taking
        from ckptd_agent.loops import position

        frame = position.innermost(sys._getframe(1))
        number, self.passed = self.passed, self.passed + 1
        if self.run.mode != "counted" and number not in self.run.stops:
            return
        found = position.find(frame)
        where = f"line {frame.f_lineno}{' (loop end)' if at_end else ''}"
        if self.run.mode == "counted":
            _write(self.run.report, point=number, trouble=_without_places(found.trouble))
            return
        if found.trouble:
            return
        try:
            final = safepoint._final(loop, at_end)
            path = taking.take(found, final, str(number), watch=safepoint._watch)
        except taking.GraphWaitsError:  # as in a real one, the next point that is no worse is taken
            self.run.stops.discard(number)
            self.run.stops.add(number + 1)
            return
        except Exception as error:  # noqa: BLE001 - as safepoint itself does
            own = type(error).__module__ == "ckptd.errors"
            why = safepoint._sentence(error)
            _write(self.run.report, undumped=_without_places(why), crash=not own, stop=number, where=where)
            return
        files = {name: data.hex() for name, data in files_in(self.run.place).items()}
        told = os.lseek(1, 0, os.SEEK_CUR)
        _write(self.run.report, segment=str(path), told=told, files=files, stop=number, where=where)


def _without_places(sentence: str) -> str:
    import re

    return re.sub(r"\S*program\.py(:\d+)?", "LINE", sentence)


def be(run: Run) -> NoReturn:
    """Run the program, and end the process."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, run.seconds)
    signal.setitimer(signal.ITIMER_REAL, run.seconds * PATIENCE)
    faulthandler.dump_traceback_later(run.seconds * PATIENCE * 0.8, file=run.trace)
    if run.sleepless:
        time.sleep = float  # type: ignore[assignment]  # takes a number and does nothing
    if run.folder:
        sys.path.insert(0, run.folder)
    for fd, name in ((1, "stdout"), (2, "stderr")):
        opened = os.open(run.out / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    for name, fd, buffering in (("stdout", 1, -1), ("stderr", 2, 1)):
        stream = open(fd, "w", closefd=False, buffering=buffering)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.chdir(run.place)
    os.environ["CKPTD_SEGMENTS"] = str(run.out)
    sys.argv[:] = sys.orig_argv[:] = ["program.py"]
    random.seed(0)
    main = types.ModuleType("__main__")
    vars(main).update(__file__=run.path, __builtins__=__builtins__)
    sys.modules["__main__"] = main
    engine = _arm(run)
    if run.mode == "plain":
        code = compile(run.text, run.path, "exec", dont_inherit=True)
    else:
        from ckptd_agent.source import finder, packages

        if run.instrument:
            os.environ[packages.VARIABLE] = run.instrument
            sys.meta_path.insert(0, finder.UserFinder())
        code = finder.compile_user("__main__", run.path, run.text.encode(), prelude=True)
    status = _execute(code, vars(main))
    _end(run, engine, status, vars(main))


def _arm(run: Run) -> Any:
    """What ckptd_agent.arm does, without a supervisor; the replay, if this is one."""
    if run.mode == "plain":
        return None
    from ckptd_agent import company, link, replay, safepoint
    from ckptd_agent.loops import hooks

    stand_in: Any = _Link(run.report)
    link.send, link.refuse = stand_in.send, stand_in.refuse
    hooks.install()
    safepoint.install()
    if run.mode == "resumed":
        company.PATIENCE = 2.0
        engine = replay.start(_Opened(run.segment))
        if run.stops:
            end_replay = hooks.end_replay

            def ended() -> None:
                end_replay()
                hooks.at_safe_point = _Counter(run)
                hooks.switch(True)

            hooks.end_replay = ended
        return engine
    hooks.at_safe_point = _Counter(run)
    hooks.switch(True)
    return None


def _execute(code: types.CodeType, namespace: dict[str, Any]) -> int:
    try:
        exec(code, namespace)
    except SystemExit as error:
        print("exit", error.code)
        return 1
    except BaseException as error:  # noqa: BLE001 - whatever the program ends by
        from ckptd_agent.loops import hooks

        if hooks.replay is not None:
            sys.excepthook(type(error), error, error.__traceback__)
        import traceback

        print(f"uncaught {type(error).__name__}: {error}")
        traceback.print_exc()
        return 1
    return 0


def _end(run: Run, engine: Any, status: int, namespace: dict[str, Any]) -> NoReturn:
    from ckptd_agent.loops import hooks
    from fuzz.digest import digest

    if hooks.replay is not None:
        engine.at_exit()
    hooks.at_safe_point = None
    hooks.switch(False)
    try:
        sys.stdout.write(digest(namespace))
    except Exception:  # noqa: BLE001 - to be seen as a difference
        import traceback

        traceback.print_exc()
        status = 3
    import gc

    namespace.clear()
    gc.collect()  # files that nobody closed are flushed, as at the end of an interpreter
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

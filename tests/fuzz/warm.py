"""A warm process: torch and the agent are imported once, then each run of a program is a fork of it.

``python -m fuzz.warm`` reads jobs from stdin, one JSON object a line, and answers each with a line. A job is
a program: it is run plain, then rewritten (its output must be the same), then with a dump at each possible
safe point, and from each of the dumps once more to its end. The process that is forked returns out of all
loops of ours before it runs the program, because a dump looks at all frames below the program's.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.differences import files_in, first_difference
from fuzz.run import Run, be


@dataclass
class Ended:
    """What a run left."""

    status: int
    stdout: bytes
    stderr: bytes
    files: dict[str, bytes]
    reports: list[dict[str, Any]]


@dataclass
class Dump:
    """One dump of a stopped run, with what there was at that moment."""

    stop: int
    where: str
    segment: str
    stdout: bytes
    files: dict[str, bytes]


class Child(BaseException):
    """This is the forked process, on its way out of all loops."""

    def __init__(self, run: Run) -> None:
        self.run = run


# ---- the process that forks -------------------------------------------------------------------


@dataclass
class Verdict:
    """What came of a program."""

    pairs: int = 0
    points: int = 0
    """Possible safe points that the program came by."""
    avoided: dict[str, int] = field(default_factory=dict)
    """Why some of them were not taken."""
    undumped: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    """kind ('harm', 'difference', 'crash', 'dump'), stop, where, detail."""
    bad: str = ""
    """Why the program itself is of no use."""


class Examiner:
    """Runs a program in all ways."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.place = base / "place"
        self.out = base / "out"
        self.path = str(self.place / "program.py")
        self.more: dict[str, Any] = {}

    def examine(self, job: dict[str, Any]) -> Verdict:
        """``job``: text, most (stops to try), seed, twice (resumed runs are stopped again), perhaps imports and
        fields of Run."""
        verdict = Verdict()
        for name in job.get("imports", ()):  # here, so that forks need not import it each by itself
            importlib.import_module(name)
        self.more = {
            name: job[name] for name in ("seconds", "sleepless", "folder", "instrument") if name in job
        }
        text = job["text"]
        draw = random.Random(job["seed"])
        plain = self.run("plain", text)
        if plain.status not in ((0,) if "folder" in job else (0, 1)):
            verdict.bad = f"status {plain.status}: {plain.stderr.decode(errors='replace')[-600:]}"
            return verdict
        counted = self.run("counted", text)
        points = [each for each in counted.reports if "point" in each]
        verdict.points = len(points)
        for each in points:
            if each["trouble"]:
                _count(verdict.avoided, each["trouble"])
        if not self._equal(verdict, "harm", -1, "", plain, counted):
            return verdict
        possible = [number for number, each in enumerate(points) if not each["trouble"]]
        if job.get("stop") is not None:
            stops = {job["stop"]}
        else:
            stops = set(draw.sample(possible, min(job["most"], len(possible))))
        if not stops:
            return verdict
        stopped = self.run("stopped", text, stops=stops)
        if self._equal(verdict, "dump", -1, "", plain, stopped):
            self._resume_all(verdict, job, text, plain, self._dumps(verdict, stopped), draw, job["twice"])
        return verdict

    def _dumps(self, verdict: Verdict, ended: Ended) -> list[Dump]:
        dumps = []
        for each in ended.reports:
            if "undumped" in each:
                _count(verdict.undumped, each["undumped"])
                if each["crash"]:
                    verdict.failures.append(
                        {
                            "kind": "dump",
                            "stop": each["stop"],
                            "where": each["where"],
                            "detail": each["undumped"],
                        }
                    )
            if "segment" in each:
                files = {name: bytes.fromhex(data) for name, data in each["files"].items()}
                dumps.append(
                    Dump(each["stop"], each["where"], each["segment"], ended.stdout[: each["told"]], files)
                )
        return dumps

    def _resume_all(
        self,
        verdict: Verdict,
        job: dict[str, Any],
        text: str,
        plain: Ended,
        dumps: list[Dump],
        draw: random.Random,
        twice: float,
    ) -> None:
        for dump in dumps:
            again = {draw.randrange(12)} if draw.random() < twice else set()
            if job.get("again") is not None:
                again = {job["again"]}
            resumed = self.run("resumed", text, stops=again, segment=dump.segment, files=dump.files)
            verdict.pairs += 1
            refused = [each["refused"] for each in resumed.reports if "refused" in each]
            if refused:
                _count(verdict.refused, refused[0])
                continue
            if again and any("segment" in each or "undumped" in each for each in resumed.reports):
                second = self._dumps(verdict, resumed)
            else:
                second = []
            if b"<gone>" in resumed.stdout or b"GoneError" in resumed.stderr:
                _count(verdict.refused, "a variable is gone: it fails where it is used")
                continue
            resumed.stdout = dump.stdout + resumed.stdout
            if self._equal(verdict, "difference", dump.stop, dump.where, plain, resumed):
                for each in second:
                    each.stdout = dump.stdout + each.stdout
                    each.where = f"{each.where}, the {each.stop}th point after a resume at {dump.where}"
                    each.stop = dump.stop
                fails = len(verdict.failures)
                self._resume_all(verdict, {}, text, plain, second, draw, 0)
                for failure in verdict.failures[fails:]:
                    failure["again"] = next(iter(again))

    def _equal(self, verdict: Verdict, kind: str, stop: int, where: str, plain: Ended, other: Ended) -> bool:
        """Note how they differ, if they do."""
        detail = ""
        if other.status < 0:
            detail = f"killed by signal {-other.status}"
        elif plain.stdout != other.stdout:
            detail = first_difference(plain.stdout, other.stdout)
        elif plain.files != other.files:
            names = [
                each
                for each in sorted(plain.files.keys() | other.files.keys())
                if plain.files.get(each) != other.files.get(each)
            ]
            detail = f"{names[0]}: {plain.files.get(names[0])!r} became {other.files.get(names[0])!r}"
        elif plain.status != other.status:
            detail = f"status {plain.status} became {other.status}"
        if detail:
            stderr = other.stderr.decode(errors="replace")[-600:]
            failure = {"kind": kind, "stop": stop, "where": where, "detail": detail, "stderr": stderr}
            verdict.failures.append(failure)
        return not detail

    def run(
        self,
        mode: str,
        text: str,
        *,
        stops: set[int] | None = None,
        segment: str = "",
        files: dict[str, bytes] | None = None,
    ) -> Ended:
        """Fork, and wait for the end."""
        shutil.rmtree(self.place, ignore_errors=True)
        if mode == "stopped" or not self.out.is_dir():
            shutil.rmtree(self.out, ignore_errors=True)
            self.out.mkdir()
        for name, data in {"program.py": text.encode(), **(files or {})}.items():
            (self.place / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                (self.place / name).mkdir(exist_ok=True)
            else:
                (self.place / name).write_bytes(data)
        report, trace = os.memfd_create("fuzz-report"), os.memfd_create("fuzz-trace")
        run = Run(
            mode, self.path, text, self.place, self.out, report, trace, stops or set(), segment, **self.more
        )
        pid = os.fork()
        if pid == 0:
            raise Child(run)
        _, status = os.waitpid(pid, 0)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what the program had started and a hard end has left behind
        lines = os.pread(report, os.fstat(report).st_size, 0).splitlines()
        told = os.pread(trace, 3000, 0)
        os.close(report)
        os.close(trace)
        return Ended(
            os.waitstatus_to_exitcode(status),
            (self.out / "stdout").read_bytes(),
            (self.out / "stderr").read_bytes() + told,
            files_in(self.place),
            [json.loads(line) for line in lines],
        )


def _count(table: dict[str, int], sentence: str) -> None:
    table[sentence] = table.get(sentence, 0) + 1


# ---- serving ----------------------------------------------------------------------------------


def warm_up() -> None:
    """Import all that runs import, so that a fork has it."""
    import torch
    import torch._dynamo
    import torch.optim
    import torch.utils.data

    from ckptd.store import reader  # noqa: F401
    from ckptd_agent import drain, facts, guards, modes, opened, replay, safepoint  # noqa: F401
    from ckptd_agent.graph import capture, document, frames, graft  # noqa: F401
    from ckptd_agent.source import finder  # noqa: F401
    from ckptd_agent.state import kinds  # noqa: F401
    from fuzz import digest  # noqa: F401

    torch.set_num_threads(1)
    model = torch.nn.Linear(2, 2)
    for optimizer in (
        torch.optim.SGD(model.parameters(), lr=0.1),
        torch.optim.Adam(model.parameters(), lr=0.1),
    ):
        model(torch.randn(3, 2)).sum().backward()
        optimizer.step()
    everything = capture.Capture()
    everything.child([model, optimizer, torch.Generator(), iter([])])
    everything.run()
    platform.python_version()
    import gc

    gc.collect()
    gc.freeze()


def serve(base: Path) -> None:
    """Answer jobs until there are no more."""
    examiner = Examiner(base)
    for line in sys.stdin:
        began = time.monotonic()
        verdict = vars(examiner.examine(json.loads(line)))
        verdict["seconds"] = time.monotonic() - began
        sys.stdout.write(json.dumps(verdict) + "\n")
        sys.stdout.flush()


def main() -> None:
    warm_up()
    child: Run | None = None
    try:
        serve(Path(sys.argv[1]))
    except Child as each:
        child = each.run
    if child is not None:
        be(child)


if __name__ == "__main__":
    main()

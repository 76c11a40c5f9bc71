"""Small training programs in the styles that people write, each stopped at many moments: they end as if left alone.

The programs in tests/programs know nothing of ckptd. Each ends with a line that stands for its weights,
optimizers and random generators; what it prints, what it writes and what its variables hold at the end is
compared byte by byte. Most are run in a warm process (fuzz.warm: all but the supervisor is as it is under
``ckptd run``), at MOMENTS safe points each; some are stopped by real signals under ``ckptd run``.
"""

from __future__ import annotations

import ast
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fuzz.warmers import Job, Warmers

from harness import Action, Line, Outcome, compare, leftovers, run_ckptd, run_plain, unrepeated

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
STAMP = re.compile(r"\d{8}-\d{6}-\d{6}")
MOMENTS = int(os.environ.get("TEST_MOMENTS") or 10)
"""Safe points at which a program is stopped; all of them if it has fewer."""
DRAW = int(os.environ.get("TEST_DRAW") or 1)
"""Seed by which they are drawn: the same in each run, so that a failure is the change's; another one draws others."""
PARTS = {"sums"}
"""What programs import."""
COLD = {"bars": "its folder has the time in its name", "appends": "it appends to a file that is there before"}
"""Programs that are of no use in a warm process, and why."""
TAIL = 6
"""Lines at the end behind which a program may be over before it can be stopped."""


@dataclass(frozen=True)
class Program:
    """How a program is started, and how often it is stopped in one journey."""

    name: str
    stops: int = 2

    @property
    def command(self) -> list[str | Path]:
        return ["-m", "pack.train"] if self.name == "pack" else [PROGRAMS / f"{self.name}.py"]

    @property
    def env(self) -> dict[str, str]:
        return {"PYTHONPATH": str(PROGRAMS)} if self.name == "pack" else {}


LIVE = [Program("bars"), Program("dqn"), Program("pack"), Program("trainer", stops=3), Program("workers")]
"""Those that are stopped by real signals: a terminal's bars, a module, worker processes, signal handlers."""
LATER = {"dqn", "pack", "trainer", "workers"}
WARM = sorted(path.stem for path in PROGRAMS.glob("*.py") if path.stem not in {*PARTS, *COLD})
REFUSED = sorted(PROGRAMS.glob("refused/*.py"))


@pytest.fixture(scope="module")
def warmers() -> Iterator[Warmers]:
    with Warmers(1) as found:  # pytest-xdist has as many processes as there are processors
        yield found


def job_of(path: Path) -> Job:
    """Stop the program at MOMENTS safe points, and some of the resumed ones once more."""
    text = path.read_text()
    return {
        "text": text,
        "imports": [name for name in imported(text) if name.partition(".")[0] == "sklearn"],
        "most": MOMENTS,
        "seed": DRAW,
        "twice": 0.2,
        "seconds": 20,
        "sleepless": True,
        "folder": str(PROGRAMS),
    }


def imported(text: str) -> list[str]:
    """Names of the modules that a program imports from."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    return [node.module for node in nodes if node.module]


@pytest.mark.parametrize("name", WARM)
def test_a_program_goes_on_from_every_moment_as_if_left_alone(name: str, warmers: Warmers):
    verdict = warmers.examine(job_of(PROGRAMS / f"{name}.py"))
    assert verdict["bad"] == ""
    assert verdict["failures"] == []
    assert verdict["refused"] == {}
    assert verdict["undumped"] == {}
    assert verdict["pairs"] > 0


@pytest.mark.parametrize("stop", [4, 5, 6])
def test_a_stop_before_the_workers_of_a_resume_have_begun(stop: int, warmers: Warmers):
    """They would have begun with what was restored, and so they do in the next one."""
    verdict = warmers.examine({**job_of(PROGRAMS / "beginning.py"), "stop": stop, "again": 0})
    assert verdict["bad"] == ""
    assert verdict["failures"] == []
    assert verdict["pairs"] == 2


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_what_cannot_be_carried_over_is_refused_in_a_sentence(path: Path, warmers: Warmers):
    text = path.read_text()
    promised = " ".join((ast.get_docstring(ast.parse(text)) or "").split()).partition("Refused: ")[2]
    assert promised
    verdict = warmers.examine(job_of(path))
    assert verdict["bad"] == ""
    assert verdict["failures"] == []
    said = {*verdict["undumped"], *verdict["refused"]}
    assert said
    assert [sentence for sentence in said if promised not in sentence] == []


@pytest.mark.parametrize(
    "program",
    # Warm, all of them are stopped at more moments than here.
    [
        pytest.param(each, id=each.name, marks=pytest.mark.nightly if each.name in LATER else ())
        for each in LIVE
    ],
)
def test_a_stopped_program_ends_as_if_left_alone(program, tmp_path, seeded):
    plain = run_plain(program.command, tmp_path / "plain", env=program.env)
    assert plain.status == 0, plain.stderr.decode()
    lines = len(plain.stdout.splitlines())
    drawn = sorted(seeded.sample(range(1, lines - TAIL), program.stops))
    actions = [Action(Line("", number, seeded.uniform(0, 4))) for number in drawn]
    store = tmp_path / "store"
    under = run_ckptd(
        program.command, tmp_path / "under", store=store, actions=actions, env=program.env, deadline=150
    )
    said = f"stopped at lines {drawn} of {lines}\n{under.stderr.decode()}"
    assert compare(unstamped(plain), unstamped(under)) == [], said
    assert len(under.processes) > 1, said
    assert leftovers(store) == []


def test_a_dump_that_is_refused_leaves_training_as_it_was(tmp_path):
    program = PROGRAMS / "refused" / "producer.py"
    plain = run_plain([program], tmp_path / "plain")
    under = run_ckptd([program], tmp_path / "under", store=tmp_path / "store", actions=[Action(Line("", 8))])
    assert compare(plain, under) == []
    assert b"the program's thread 'Thread-1 (produce)' runs at " in under.stderr
    assert len(under.processes) == 1, under.stderr.decode()


def unstamped(outcome: Outcome) -> Outcome:
    """The same with the time taken out of the names of files."""
    return replace(outcome, files={STAMP.sub("STAMP", name): data for name, data in outcome.files.items()})


def test_what_was_appended_since_the_checkpoint_is_cut_off(tmp_path):
    program = [PROGRAMS / "appends.py"]
    plain = run_plain(program, tmp_path / "plain")
    store = tmp_path / "store"
    kills = [Action(Line("^step 17 "), signal=signal.SIGKILL)]
    under = run_ckptd(program, tmp_path / "under", store=store, actions=kills, options=["--every", "5steps"])
    once = unrepeated(plain.stdout, under.stdout, len(kills))
    assert compare(plain, under.saying(once)) == [], under.stderr.decode()
    assert len(under.processes) == 2, under.stderr.decode()

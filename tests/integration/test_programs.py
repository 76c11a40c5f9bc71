"""Small training programs in the styles that people write, each stopped a few times: they end as if left alone.

The programs in tests/programs know nothing of ckptd. Each ends with a line that stands for its weights,
optimizers and random generators; what it prints and writes is compared byte by byte.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness import Action, Line, Outcome, compare, leftovers, run_ckptd, run_plain, unrepeated

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
STAMP = re.compile(r"\d{8}-\d{6}-\d{6}")
OTHERS = {"lazy", "appends", "producer", "sums"}
"""What has a test of its own, and what the programs import."""
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


TABLE = [
    Program("averages"),
    Program("bars"),
    Program("closures"),
    Program("dqn"),
    Program("folds", stops=3),
    Program("gan"),
    Program("iterable"),
    Program("lbfgs"),
    Program("lines"),
    Program("maml"),
    Program("memory"),
    Program("pack"),
    Program("perm"),
    Program("queues"),
    Program("raising"),
    Program("reinforce"),
    Program("resume"),
    Program("rnn"),
    Program("semi"),
    Program("stream"),
    Program("targets"),
    Program("trainer", stops=3),
    Program("vae"),
    Program("values"),
    Program("wgan"),
    Program("workers"),
]


def test_every_program_is_in_the_table():
    found = {path.stem for path in PROGRAMS.glob("*.py")}
    assert {program.name for program in TABLE} == found - OTHERS | {"pack"}


@pytest.mark.parametrize("program", TABLE, ids=lambda program: program.name)
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


def test_a_thread_of_the_program_refuses_the_dump_and_training_goes_on(tmp_path):
    program = Program("producer")
    plain = run_plain(program.command, tmp_path / "plain")
    under = run_ckptd(
        program.command, tmp_path / "under", store=tmp_path / "store", actions=[Action(Line("", 8))]
    )
    assert compare(plain, under) == []
    assert b"the program's thread 'Thread-1 (produce)' runs at " in under.stderr
    assert len(under.processes) == 1


def test_a_sampler_that_draws_as_it_goes_refuses_the_dump_and_training_goes_on(tmp_path):
    program = Program("lazy")
    plain = run_plain(program.command, tmp_path / "plain")
    under = run_ckptd(
        program.command, tmp_path / "under", store=tmp_path / "store", actions=[Action(Line("^step 20 "))]
    )
    assert compare(plain, under) == []
    assert b"a DataLoader's sampler draws from the global random generator as it goes" in under.stderr
    assert len(under.processes) == 1


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

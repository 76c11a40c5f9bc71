"""The two examples, interrupted at many moments, end as runs that nobody interrupted, bit for bit."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import (
    Action,
    Committed,
    FileHas,
    Line,
    Moment,
    Outcome,
    Start,
    compare,
    leftovers,
    run_ckptd,
    run_plain,
    unrepeated,
)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Example:
    """A small configuration of an example, and what its lines look like."""

    name: str
    args: str
    steps: int
    step: str
    """Pattern of the line that each training step prints."""

    @property
    def command(self) -> list[str | Path]:
        return [EXAMPLES / f"{self.name}.py", *self.args.split(), "--out", "out"]


DIGITS = Example(
    "digits",
    "--epochs 4 --samples 400 --batch-size 16 --width 16 --log-interval 1",
    steps=80,
    step=r"^epoch +\d+ \[",
)
CHARLM = Example(
    "charlm",
    "--max-iters 60 --eval-interval 12 --eval-iters 12 --log-interval 1 --sample 20"
    " --batch-size 4 --block-size 48 --accumulate 2 --width 32",
    steps=61,
    step=r"^iter ",
)
EACH = pytest.mark.parametrize("example", [DIGITS, CHARLM], ids=["digits", "charlm"])
MOSTLY_DIGITS = pytest.mark.parametrize(
    "example",
    [pytest.param(DIGITS, id="digits"), pytest.param(CHARLM, id="charlm", marks=pytest.mark.nightly)],
)


def after_step(example: Example, n: int, milliseconds: float = 0.0) -> Line:
    return Line(example.step, n, milliseconds)


# Several interruptions share a run, as each costs a start of Python and torch. Every line below is
# one moment; together they are 20 for each example (see test_there_are_twenty_moments).
JOURNEYS: dict[str, tuple[Example, list[Moment]]] = {
    "digits-starts": (DIGITS, [Start(0), Start(400), after_step(DIGITS, 1), after_step(DIGITS, 2)]),
    "digits-ends-of-epochs": (
        DIGITS,
        [after_step(DIGITS, 20), Line("^epoch  1 done"), after_step(DIGITS, 40), Line("^epoch  3 done")],
    ),
    "digits-evaluation": (
        DIGITS,
        [after_step(DIGITS, 20, 2.0), after_step(DIGITS, 40, 3.0), after_step(DIGITS, 60, 1.0)],
    ),
    "digits-files": (
        DIGITS,
        [FileHas("out/metrics.csv"), FileHas("out/metrics.csv", 1), FileHas("out/model.pt")],
    ),
    "charlm-starts": (CHARLM, [Start(0), Start(400), Line("parameters,"), after_step(CHARLM, 1)]),
    "charlm-evaluation": (
        CHARLM,
        [Line("^step 0:"), after_step(CHARLM, 12, 5.0), after_step(CHARLM, 24, 20.0), Line("^step 36:")],
    ),
    "charlm-files": (
        CHARLM,
        [FileHas("out/train.bin"), Line("^saving", 1, 0.5), Line("^saving", 2, 1.5), FileHas("out/final.pt")],
    ),
}
LATER = JOURNEYS.keys() - {"charlm-starts"}
"""Like moments are looked for elsewhere too: with these, each has its 20 in the nightly run."""
AT_THE_END: set[Moment] = {FileHas("out/model.pt"), FileHas("out/final.pt"), FileHas("out/metrics.csv", 1)}
"""The run may be over before it can be stopped: then it must have ended as if it had not been asked."""
SPREAD = 20 - 1
"""Moments of each example, less the two signals in a row."""


def of(example: Example) -> int:
    return sum(len(moments) for other, moments in JOURNEYS.values() if other is example)


def check(example: Example, tmp_path: Path, moments: list[Moment], times: int = 1) -> None:
    plain = run_plain(example.command, tmp_path / "plain")
    assert plain.status == 0, plain.stderr.decode()
    store = tmp_path / "store"
    actions = [Action(moment, times=times) for moment in moments]
    under = run_ckptd(example.command, tmp_path / "under", store=store, actions=actions, deadline=200)
    assert compare(plain, under) == [], under.stderr.decode()
    certain = sum(moment not in AT_THE_END for moment in moments)
    assert len(under.processes) > certain, under.stderr.decode()
    assert leftovers(store) == []


@pytest.mark.parametrize(
    "journey",
    [pytest.param(name, marks=pytest.mark.nightly if name in LATER else ()) for name in JOURNEYS],
)
def test_sigterm_at_a_named_moment(journey, tmp_path):
    example, moments = JOURNEYS[journey]
    check(example, tmp_path, moments)


@pytest.mark.parametrize(
    ("example", "part"),
    [
        pytest.param(DIGITS, 0, id="digits-0", marks=pytest.mark.nightly),
        pytest.param(DIGITS, 1, id="digits-1", marks=pytest.mark.nightly),
        pytest.param(CHARLM, 0, id="charlm-0", marks=pytest.mark.nightly),
        pytest.param(CHARLM, 1, id="charlm-1", marks=pytest.mark.nightly),
    ],
)
def test_sigterm_at_drawn_moments(example, part, tmp_path, seeded):
    """The rest of the 20, spread over the run: anywhere within a step, in increasing order."""
    count = SPREAD - of(example)
    mine = count // 2 + (count % 2 if part else 0)
    steps = sorted(seeded.sample(range(2, example.steps - 6), mine))
    moments: list[Moment] = [after_step(example, step, seeded.uniform(0, 6)) for step in steps]
    check(example, tmp_path, moments)


@MOSTLY_DIGITS
def test_two_signals_in_a_row(example, tmp_path):
    check(example, tmp_path, [after_step(example, 9)], times=2)


@EACH
def test_there_are_twenty_moments(example):
    assert of(example) + (SPREAD - of(example)) + 1 == 20
    assert SPREAD - of(example) >= 5


@pytest.mark.parametrize(
    ("example", "number"),
    [
        pytest.param(DIGITS, signal.SIGINT, id="digits-SIGINT", marks=pytest.mark.nightly),
        pytest.param(CHARLM, signal.SIGTERM, id="charlm-SIGTERM", marks=pytest.mark.nightly),
        pytest.param(DIGITS, signal.SIGTERM, id="digits-SIGTERM", marks=pytest.mark.nightly),
        pytest.param(CHARLM, signal.SIGINT, id="charlm-SIGINT", marks=pytest.mark.nightly),
    ],
)
def test_ckptd_is_stopped_and_the_same_command_goes_on(example, number, tmp_path):
    plain = run_plain(example.command, tmp_path / "plain")
    store, cwd = tmp_path / "store", tmp_path / "under"
    parts: list[Outcome] = []
    for step in (5, 30):
        # Each ckptd passes on only what its own processes print.
        said = sum(len(re.findall(example.step.encode(), part.stdout, re.MULTILINE)) for part in parts)
        stop = Action(after_step(example, max(1, step - said)), signal=number, to="ckptd")
        parts.append(run_ckptd(example.command, cwd, store=store, actions=[stop]))
        assert parts[-1].status == 75, parts[-1].stderr.decode()
        assert leftovers(store) == []
    last = run_ckptd(example.command, cwd, store=store)
    whole = parts[0].then(parts[1]).then(last)
    assert compare(plain, whole) == [], whole.stderr.decode()


@MOSTLY_DIGITS
def test_a_killed_process_goes_on_from_its_last_checkpoint(example, tmp_path):
    plain = run_plain(example.command, tmp_path / "plain")
    store = tmp_path / "store"
    kills = [
        Action(Committed(store, 1, after=4.0), signal=signal.SIGKILL),
        Action(after_step(example, example.steps // 2), signal=signal.SIGKILL),
    ]
    under = run_ckptd(
        example.command, tmp_path / "under", store=store, actions=kills, options=["--every", "5steps"]
    )
    once = unrepeated(plain.stdout, under.stdout, len(kills))
    assert compare(plain, under.saying(once)) == [], under.stderr.decode()
    assert len(under.processes) == 1 + len(kills), under.stderr.decode()
    assert leftovers(store) == []

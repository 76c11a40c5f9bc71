"""The harness against real processes: it signals who it says, and leaves nobody behind."""

from __future__ import annotations

import signal
import time

import psutil
import pytest

from harness import Action, Line, LiveRun, Start, compare, run_ckptd, run_plain

TICKS = """
import signal, sys, time
caught = []
signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
until = time.monotonic() + float(sys.argv[1])
print("ready")
while time.monotonic() < until and not caught:
    time.sleep(0.01)
print("caught" if caught else "not caught")
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "ticks.py"
    path.write_text(TICKS)
    return path


def test_a_run_that_nobody_disturbs_is_the_plain_one(script, tmp_path):
    plain = run_plain([script, "0.1"], tmp_path / "plain")
    under = run_ckptd([script, "0.1"], tmp_path / "under", store=tmp_path / "store")
    assert compare(plain, under) == []
    assert len(under.processes) == 1


def test_a_signal_reaches_the_training_process(script, tmp_path):
    actions = [Action(Line("^ready"), signal=signal.SIGUSR1)]
    under = run_ckptd([script, "60"], tmp_path / "under", store=tmp_path / "store", actions=actions)
    assert under.stdout == b"ready\ncaught\n"


def test_a_moment_that_never_comes_is_an_error_and_nobody_is_left(script, tmp_path):
    with LiveRun([script, "60"], tmp_path / "under", store=tmp_path / "store", deadline=5) as run:
        run.act(Action(Line("^ready"), signal=0))
        (job,) = run.processes
        with pytest.raises(AssertionError, match=r"did not come in time(.|\n)*ready"):
            run.act(Action(Line("^never"), same=True))
    assert not job.is_running() or job.status() == psutil.STATUS_ZOMBIE


def test_a_run_that_ends_too_soon_is_an_error(script, tmp_path):
    with pytest.raises(AssertionError, match="did not come: ckptd ended with 0"):
        run_ckptd(
            [script, "0"], tmp_path / "under", store=tmp_path / "store", actions=[Action(Line("^never"))]
        )


def test_milliseconds_are_counted_from_the_start_of_the_process(script, tmp_path):
    with LiveRun([script, "60"], tmp_path / "under", store=tmp_path / "store") as run:
        run.act(Action(Start(200), signal=0))
        assert time.monotonic() - run.started >= 0.2

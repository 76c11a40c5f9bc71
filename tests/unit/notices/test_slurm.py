"""The end of a Slurm job's time, by a clock that may be set."""

from __future__ import annotations

import time

import pytest

from ckptd.errors import UsageError
from ckptd.notices.event import LEAVE
from ckptd.notices.slurm import Slurm, slurm_source


class Clock:
    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.time() + self.ahead


@pytest.mark.parametrize("left", [100.0, 0.0, -300.0])
def test_within_the_lead_it_is_told_at_once(listen, left):
    notice = listen(Slurm(time.time() + left)).next()
    assert (notice.source, notice.kind) == ("slurm", LEAVE)
    assert notice.deadline - time.monotonic() == pytest.approx(left, abs=1)


def test_it_is_told_so_long_before_the_end(listen):
    begun = time.monotonic()
    listening = listen(Slurm(time.time() + 10.5, lead=10.0))
    assert listening.health("slurm").state in ("starting", "ok")
    notice = listening.next()
    assert 0.4 <= time.monotonic() - begun <= 1.0
    assert notice.deadline - begun == pytest.approx(10.5, abs=0.3)
    listening.fares("slurm", "ok")


def test_a_clock_that_is_set_moves_the_deadline_and_may_withdraw_it(listen, monkeypatch):
    monkeypatch.setattr("ckptd.notices.slurm.EVERY", 0.1)
    clock = Clock()
    end = time.monotonic() + 1000
    listening = listen(Slurm(time.time() + 1000, lead=120, clock=clock))
    assert listening.maybe(0.2) is None
    clock.ahead = 900.0
    assert listening.next().deadline == pytest.approx(end - 900, abs=0.5)
    clock.ahead = 950.0
    assert listening.next().deadline == pytest.approx(end - 950, abs=0.5)
    clock.ahead = 0.0
    assert listening.next().withdrawn


def test_an_end_that_is_long_past_is_another_jobs(listen):
    listening = listen(Slurm(time.time() - 7200))
    assert "SLURM_JOB_END_TIME" in listening.fares("slurm", "trouble").text
    assert listening.maybe(0.1) is None


@pytest.mark.parametrize(("argument", "lead"), [("", 120.0), ("5m", 300.0), ("90", 90.0)])
def test_its_lead_goes_behind_its_name(argument, lead):
    source = slurm_source({"SLURM_JOB_END_TIME": "2000000000"}, argument)
    assert (source._end, source._lead) == (2e9, lead)


@pytest.mark.parametrize(
    ("env", "argument"), [({}, ""), ({"SLURM_JOB_END_TIME": "NONE"}, ""), ({"SLURM_JOB_END_TIME": "1"}, "x")]
)
def test_what_can_not_be_understood_is_refused(env, argument):
    with pytest.raises(UsageError):
        slurm_source(env, argument)

"""The interval that ckptd chooses: from what a dump costs, and how often the job dies."""

from __future__ import annotations

import pytest

from ckptd.daemon.interval import CEILING, DUTY, FIRST, LONGEST, Interval


def test_the_first_comes_when_the_job_has_trained_for_a_while():
    assert Interval().seconds() == FIRST
    assert "until the first has shown" in Interval().why()


@pytest.mark.parametrize("blocked", [0.001, 0.05, 0.4, 3.0, 12.0])
def test_training_never_stands_still_for_more_than_its_share(blocked):
    each = Interval()
    each.dumped(blocked, 1.0)
    assert blocked / each.seconds() <= CEILING
    assert FIRST <= each.seconds() <= LONGEST


def test_a_slow_disk_has_time_of_its_own():
    each = Interval()
    each.dumped(0.01, 30.0)
    assert 30.0 / each.seconds() <= DUTY


def test_who_dies_often_is_saved_more_often():
    calm, hunted = Interval(ran=7200.0), Interval(ran=7200.0, failures=8)
    for each in (calm, hunted):
        each.dumped(0.2, 1.0)
    assert FIRST <= hunted.seconds() < calm.seconds()


def test_dumps_that_fail_are_tried_less_and_less_often_until_one_works():
    each = Interval()
    each.dumped(0.1, 1.0)
    usual, longer = each.seconds(), []
    for _ in range(6):
        each.failed += 1
        longer.append(each.seconds())
    assert longer == sorted(longer)
    assert longer[0] == 2 * usual
    assert longer[-1] == 8 * usual
    assert "the last 6 failed" in each.why()
    each.dumped(0.1, 1.0)
    assert each.seconds() == usual


def test_the_sentence_names_what_it_costs():
    each = Interval()
    each.dumped(0.25, 1.0)
    assert (
        each.why()
        == f"every {each.seconds():.0f} s: each stops training for 0.25 s ({0.25 / each.seconds():.2%} of the time)"
    )

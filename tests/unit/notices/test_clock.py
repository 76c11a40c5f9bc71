"""Times as services write them, and deadlines that survive wrong clocks."""

from __future__ import annotations

import time

import pytest

from ckptd.notices.clock import clock_words, monotonic_of, unix_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2020-04-24T17:11:44Z", 1587748304),
        ("2020-04-24t17:11:44z", 1587748304),
        ("2020-04-24T19:11:44+02:00", 1587748304),
        ("2020-04-24T17:11:44", 1587748304),
        ("Fri, 24 Apr 2020 17:11:44 GMT", 1587748304),
        ("24 Apr 2020 17:11:44 GMT", 1587748304),
        (" 2020-04-24T17:11:44Z\n", 1587748304),
        ("", None),
        ("soon", None),
        ("None", None),
        ("2020-13-44T17:11:44Z", None),
        ("24 Xyz 2020 17:11:44 GMT", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
    ],
)
def test_times_are_read(text, seconds):
    assert unix_time(text) == seconds


@pytest.mark.parametrize(
    ("ahead", "left"), [(90.0, 90.0), (0.0, 0.0), (-50.0, 0.0), (36000.0, 120.0), (float("inf"), 120.0)]
)
def test_deadlines_are_neither_past_nor_absurd(ahead, left):
    assert monotonic_of(1e9 + ahead, 1e9, 500.0, 120.0) == 500.0 + left


def test_words_have_the_day_where_it_is_another():
    assert clock_words(1587748304) == "2020-04-24 17:11:44 UTC"
    assert len(clock_words(time.time())) == len("17:11:44 UTC")

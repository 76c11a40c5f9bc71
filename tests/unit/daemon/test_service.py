"""How long a stop goes on asking for time: by a clock that the test turns."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from ckptd.daemon import service
from ckptd.daemon.loop import Loop
from ckptd.daemon.service import AGAIN, EXTENSION, MARGIN, PATIENCE, Service

GRACE = 25.0


class Told:
    """A manager that writes down when it was asked for time."""

    listens, watchdog_seconds = True, 0.0

    def __init__(self, clock):
        self.clock, self.asked = clock, []

    def ready(self):
        return True

    def status(self, text):
        return True

    def extend(self, seconds):
        assert seconds == EXTENSION
        self.asked.append(self.clock())
        return True


@pytest.fixture
def stopping(monkeypatch):
    """A job that was told to stop at 100: a function that lets time pass, and returns when time was asked for."""
    now, written = [100.0], [0]
    monkeypatch.setattr(service, "_bytes_written", lambda: written[0])
    told = Told(lambda: now[0])
    attempt = SimpleNamespace(writing=0)
    job = SimpleNamespace(
        ledger=SimpleNamespace(state="dumping", record=SimpleNamespace(extra={"step": 3})),
        loop=Loop(lambda: now[0]), stop=SimpleNamespace(deadline=now[0] + GRACE), attempt=attempt,
    )  # fmt: skip
    one = Service(job, told)  # type: ignore[arg-type] # what it looks at, and nothing else

    def passes(until, *, writing=False, moved=0):
        attempt.writing = int(writing)
        while now[0] < until:
            one.look()
            now[0] += 0.5
            written[0] += moved
        return told.asked

    return passes


def test_time_is_asked_for_at_once_and_until_the_grace_and_a_margin_are_over(stopping):
    asked = stopping(300.0)
    assert asked[0] == 100.0
    assert asked[-1] == pytest.approx(100 + GRACE + MARGIN, abs=AGAIN)
    assert max(b - a for a, b in itertools.pairwise(asked)) < EXTENSION / 2


def test_a_disk_that_takes_data_gets_time_as_long_as_it_does(stopping):
    assert stopping(1000.0, writing=True, moved=1 << 20)[-1] > 1000 - 2 * AGAIN
    assert stopping(2000.0, writing=True)[-1] == pytest.approx(1000 + PATIENCE, abs=3 * AGAIN)


def test_what_ckptd_says_itself_is_no_progress(stopping):
    assert stopping(1000.0, writing=True, moved=500)[-1] < 100 + PATIENCE + AGAIN


def test_this_process_counts_what_it_writes(tmp_path):
    before = service._bytes_written()
    (tmp_path / "x").write_bytes(bytes(100_000))
    assert service._bytes_written() - before >= 100_000

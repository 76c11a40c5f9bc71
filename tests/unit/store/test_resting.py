"""Breaks between the pieces of a write that nobody waits for."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from store_fixtures.making import make_job, make_manifest, make_segment

from ckptd.memory.segment import Segment
from ckptd.store.draft import Way
from ckptd.store.known import Known
from ckptd.store.resting import IDLE, Resting
from ckptd.store.verify import verify_checkpoint
from ckptd.store.writer import write_checkpoint


def work(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def test_a_break_is_as_long_as_the_work_says():
    rest = Resting(60.0, lambda: False)
    began = time.monotonic()
    work(0.02)
    rest.take()
    assert rest.taken >= IDLE * 0.02
    assert time.monotonic() - began >= (1 + IDLE) * 0.02


def test_breaks_have_an_end():
    rest = Resting(0.05, lambda: False)
    for _ in range(20):
        work(0.005)
        rest.take()
    assert 0.05 <= rest.taken < 5  # how much more: what the machine makes of sleeping for a moment


def test_who_waits_is_not_kept_waiting():
    waits = threading.Event()
    rest = Resting(3600.0, waits.is_set)
    work(0.05)
    threading.Timer(0.05, waits.set).start()
    rest.take()
    rest.take()
    assert rest.taken < IDLE * 0.05


def test_a_checkpoint_that_is_written_with_breaks_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)  # it is asked for, and need not be waited for
    folder = make_job(tmp_path / "store")
    with Segment(make_segment(tmp_path / "a.seg", [("a", "F32", 40 << 20)])) as segment:
        rest = Resting(0.01, lambda: False)
        path, _ = write_checkpoint(folder, segment, make_manifest(1), Way(Known(), rest=rest))
    verify_checkpoint(path)
    assert slept
    assert rest.taken >= 0.01

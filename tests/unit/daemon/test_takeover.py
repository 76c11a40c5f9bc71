"""A program that ends between the moments at which it was found and at which it would be looked after."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ckptd import states
from ckptd.daemon.places import SegmentFolder
from ckptd.daemon.processes import ProcessId, process_id
from ckptd.daemon.resume import Base
from ckptd.daemon.takeover import Takeover


@pytest.fixture
def ended() -> ProcessId:
    """A process that is gone."""
    with subprocess.Popen(["sleep", "60"]) as process:
        found = process_id(process.pid)
        process.kill()
    return found


@pytest.fixture
def job(tmp_path: Path) -> Any:
    """As much of a context as is looked at."""
    shm = tmp_path / "shm"
    shm.mkdir()
    record = SimpleNamespace(attempt=3, extra={"state": states.RUNNING})
    return SimpleNamespace(
        segments=SegmentFolder("key", tmp_path / "spilled", shm, keep=True),
        ledger=SimpleNamespace(record=record),
    )


def test_it_left_word_that_it_came_to_its_end(job: Any, ended: ProcessId) -> None:
    (job.segments.path / "finished-3").touch()
    left = Takeover(job, ended, lambda attempt: None)
    assert not left.has_finished()  # as far as is known it runs
    assert not left.adopt(Base())
    assert left.has_finished()
    assert not left.has_finished()  # what comes behind that is another attempt's


def test_it_left_no_word(job: Any, ended: ProcessId) -> None:
    (job.segments.path / "finished-2").touch()
    left = Takeover(job, ended, lambda attempt: None)
    assert not left.adopt(Base())
    assert not left.has_finished()


def test_a_number_that_is_anothers_by_now_is_not_taken_over(job: Any) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        found = process_id(process.pid)
        assert not Takeover(job, ProcessId(found.pid, found.started - 60), lambda attempt: None).adopt(Base())
        process.kill()

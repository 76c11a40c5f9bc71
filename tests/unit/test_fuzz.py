"""Random programs, and the small ones that random programs once came down to, stopped at every safe point."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.hunt import Tally, jobs, plain_sentence, small, tell
from fuzz.programs import program
from fuzz.shrink import shrink
from fuzz.warmers import Job, Warmers

REGRESSIONS = sorted((Path(__file__).resolve().parent.parent / "programs" / "regressions").glob("*.py"))
SEED = 1000
"""The same programs each time, so that a failure is the change's; scripts/fuzz goes on from here."""
MOST = int(os.environ.get("TEST_MOMENTS") or 25)
"""Safe points of a program that once failed: all of them but for the few that have more."""
SECONDS = float(os.environ.get("TEST_SECONDS") or 40.0)
FEWEST = 150
"""Pairs that even a busy machine gets done in that time."""


@pytest.fixture(scope="module")
def warmers() -> Iterator[Warmers]:
    with Warmers() as all_of_them:
        yield all_of_them


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_once_failed_holds_at_every_safe_point(path: Path, warmers: Warmers):
    verdict = warmers.examine({"text": path.read_text(), "most": MOST, "seed": 1, "twice": 0.3})
    assert verdict["bad"] == ""
    assert verdict["failures"] == []
    assert verdict["refused"] == {}
    assert verdict["undumped"] == {}
    assert verdict["pairs"] > 0


def test_random_programs_go_on_as_if_they_had_not_been_stopped(warmers: Warmers):
    tally = Tally()

    def in_time() -> Iterator[Job]:
        for job in jobs(SEED):
            if time.monotonic() - tally.began > SECONDS:
                return
            yield job

    for verdict in warmers.examine_all(in_time()):
        tally.add(verdict)
        if verdict["failures"]:
            pytest.fail(f"seed {verdict['job']['seed']}:\n{tell(*small(verdict, warmers))}")
    print("\n".join(tally.lines()))
    assert tally.pairs >= FEWEST
    assert tally.refused.total() <= tally.pairs / 10


def test_a_program_that_is_not_deterministic_is_seen(warmers: Warmers):
    """The comparison can fail: here each process prints another number."""
    text = "import os\nfor i in range(2):\n    print(str(i), repr(os.getpid()))\n"
    found = warmers.examine({"text": text, "most": 5, "seed": 1, "twice": 0})
    assert [each["kind"] for each in found["failures"]] == ["harm"]


def test_the_same_seed_gives_the_same_program():
    assert program(17) == program(17)
    assert program(17) != program(18)


def test_sentences_are_counted_without_the_names_of_one_program():
    assert plain_sentence("/x/program.py:12 lacks it7") == "LINE lacks itN"


def test_shrinking_keeps_what_fails():
    text = "a = 1\nfor i in range(3):\n    if a:\n        b = (a + 2) * 3\n    c = 4\nprint(b)\n"
    found = shrink(text, lambda found: "3" in found and "for" in found)
    assert "3" in found
    assert "for" in found
    assert len(found.splitlines()) == 2

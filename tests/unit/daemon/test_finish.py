"""The program's own end, and what is said when a resume is refused."""

from __future__ import annotations

import pytest
from store_fixtures.making import make_checkpoint, make_job, make_segment

from ckptd import states
from ckptd.daemon.policy import Ending, decide
from ckptd.daemon.resume import find_base, refusal


def outcome(**fields):
    return decide(Ending(hello=True, **fields), restarts=0, max_restarts=3, base_delay=1.0)


@pytest.mark.parametrize(("status", "shown"), [(0, 0), (-15, 143), (-11, 139)])
@pytest.mark.parametrize("also", [{}, {"noticed": True, "saved": True}, {"stopping": True}])
def test_what_dies_behind_its_last_line_has_finished(status, shown, also):
    done = outcome(status=status, finished=True, has_checkpoint=True, **also)
    assert (done.relaunch, done.status, done.state) == (False, shown, states.FINISHED)


def test_a_failure_that_the_program_reports_by_its_status_is_one():
    assert outcome(status=1, finished=True, has_checkpoint=True).relaunch


def test_a_refusal_says_what_can_be_done(tmp_path):
    folder, segment = make_job(tmp_path / "store"), make_segment(tmp_path / "segment")
    facts: dict[str, dict[str, str]] = {"sources": {}}
    make_checkpoint(folder, segment, 3, facts=facts)
    alone = refusal("the loop at train.py:3 is not reached", find_base(folder, allow_changed=False))
    assert alone == (
        "step 3 can't be resumed, nothing was changed: the loop at train.py:3 is not reached; "
        "start over with --fresh"
    )
    make_checkpoint(folder, segment, 5, facts=facts)
    both = refusal("the loop at train.py:3 is not reached", find_base(folder, allow_changed=False))
    assert both.endswith("start over with --fresh, or go on from step 3 with --from 3")


def test_a_refusal_that_says_so_itself_is_left_as_it_is(tmp_path):
    folder, segment = make_job(tmp_path / "store"), make_segment(tmp_path / "segment")
    make_checkpoint(folder, segment, 3, facts={"sources": {}})
    why = "its manifest can't be used; --fresh starts over"
    assert refusal(why, find_base(folder, allow_changed=False)) == why

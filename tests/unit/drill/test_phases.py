"""From news to phases and a verdict."""

from __future__ import annotations

import pytest

from ckptd.drill.phases import judge, phases_of
from ckptd.drill.play import Heard, refuse
from ckptd.drill.rehearsal import SOURCES, rehearse
from ckptd.errors import NotDrilledError, UsageError

BEGUN = 100.0


def news(*each: tuple[str, float, dict]) -> list[Heard]:
    """By seconds after the notice."""
    return [Heard(name, BEGUN + after, facts) for name, after, facts in each]


WHOLE = news(
    ("durable", -1.0, {"step": 40, "leave": False}),
    ("notice", 0.0, {"source": "drill"}),
    ("asked", 0.1, {"leave": True}),
    ("copied", 0.2, {"step": 69, "seconds": 0.01, "leave": False}),  # a periodic one that was under way
    ("durable", 0.4, {"step": 69, "leave": True}),
    ("copied", 2.5, {"step": 70, "seconds": 0.5, "leave": True}),
    ("durable", 5.5, {"step": 70, "leave": True}),
    ("exited", 5.75, {"status": -15}),
    ("spawned", 6.0, {"attempt": 2, "pid": 1}),
    ("uploaded", 9.0, {"step": 70}),
    ("resumed", 10.0, {"step": 70, "seconds": 4.0}),
    ("stepping", 10.5, {"step": 71}),
)


def played(heard: list[Heard], *, remote: bool = False, source: str = "gcp", limit: float | None = None):
    rehearsal = rehearse(source, None, limit, 25.0, leave=False)
    phases = phases_of(heard, BEGUN)
    return {phase.name: phase for phase in phases}, judge(heard, phases, rehearsal, remote)


def test_phases_are_those_of_the_dump_to_leave_with():
    phases, verdict = played([heard for heard in WHOLE if heard.at >= BEGUN])
    assert list(phases) == [
        "heard", "asked", "safe point", "copied", "durable", "exited", "relaunched", "uploaded", "resumed",
        "first step",
    ]  # fmt: skip
    assert phases["safe point"].after == pytest.approx(2.0)
    assert phases["copied"].took == pytest.approx(0.5)
    assert phases["durable"].after == pytest.approx(5.5)
    assert verdict.holds
    assert verdict.text == "holds: 24 s to spare of 30 s"
    assert (verdict.saved_step, verdict.resumed_step) == (70, 70)


def test_where_the_machine_goes_the_upload_counts():
    _, verdict = played(WHOLE, remote=True)
    assert verdict.text == "holds: 21 s to spare of 30 s"
    _, verdict = played(WHOLE, remote=True, source="systemd")
    assert verdict.margin == pytest.approx(84.5)
    _, verdict = played([heard for heard in WHOLE if heard.name != "uploaded"], remote=True)
    assert (verdict.holds, verdict.margin) == (False, None)
    assert verdict.text == "saved here, but not at the remote, and the machine's disk may go with it"


def test_what_was_slow_and_what_gives_more():
    _, verdict = played(WHOLE, source="systemd", limit=5.0)
    assert verdict.text == "too late by 0.5 s: the store's disk took 3.0 s"
    assert verdict.mend.startswith("a faster disk for --store")
    rehearsal = rehearse("kubernetes", 3.0, None, 25.0, leave=False)
    verdict = judge(WHOLE, phases_of(WHOLE, BEGUN), rehearsal, False)
    assert verdict.mend.startswith("terminationGracePeriodSeconds: 10")
    assert rehearse("sigterm", None, None, 2.0, leave=False).mend == "ckptd run --grace {need}s -- CMD"


def test_tight_is_said():
    _, verdict = played(WHOLE, limit=6.0)
    assert verdict.holds
    assert verdict.text == "holds: 0.5 s to spare of 6.0 s, which is tight"


def test_steps_that_were_lost_are_no_success():
    heard = [
        Heard("resumed", each.at, {"step": 40, "seconds": 4.0}) if each.name == "resumed" else each
        for each in WHOLE
    ]
    _, verdict = played(heard)
    assert not verdict.holds
    assert verdict.text == "30 steps lost: it went on from step 40, not 70"


@pytest.mark.parametrize(
    ("last", "text"),
    [
        (("unsaved", 3.0, {"why": "no room", "leave": True}), "not saved: no room"),
        (("over", 3.0, {"status": 0, "state": "finished"}), "not saved: the job is finished"),
        (("exited", 3.0, {"status": 0}), "not saved: the program ended first"),
    ],
)
def test_what_was_never_saved(last, text):
    _, verdict = played(news(("notice", 0.0, {}), ("asked", 0.1, {"leave": True}), last))
    assert (verdict.holds, verdict.margin, verdict.text) == (False, None, text)


def test_sources_and_times():
    assert {source: rehearse(source, None, None, 25.0, leave=False).told for source in SOURCES} == {
        "aws": 120, "gcp": 30, "gke": 15, "azure": 30, "kubernetes": 30, "slurm": 30, "systemd": 90, "logind": 5,
        "sigterm": 25,
    }  # fmt: skip
    both = rehearse("aws", 30.0, 15.0, 25.0, leave=False)
    assert (both.told, both.deadline) == (30, 15)
    assert rehearse("aws", 30.0, 45.0, 25.0, leave=False).deadline == 30
    with pytest.raises(UsageError):
        rehearse("sigterm", 30.0, None, 25.0, leave=False)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"stopping": "ckptd stop"}, "is leaving already"),
        ({"state": "saving"}, "is leaving already"),
        ({"state": "replaying"}, "on its way back"),
        ({"state": "starting", "agent": None}, "has not begun to train"),
        ({"agent": None, "note": "no loop is followed"}, "no loop is followed"),
        ({"standing": [{"kind": "leave", "text": "AWS takes it"}]}, "AWS takes it"),
    ],
)
def test_what_cant_be_drilled(change, why):
    facts = {
        "name": "train",
        "state": "running",
        "agent": 1,
        "stopping": False,
        "standing": [],
        "on_notice": "auto",
    }
    refuse(facts, leave=False)
    with pytest.raises(NotDrilledError, match=why):
        refuse({**facts, **change}, leave=False)


def test_one_that_stays_cant_be_played_to_the_end():
    facts = {"name": "train", "state": "running", "agent": 1, "on_notice": "stay"}
    refuse(facts, leave=False)
    with pytest.raises(NotDrilledError, match="--on-notice stay"):
        refuse(facts, leave=True)

"""Journals, read and compared: which event, which name, and what a run that went back is held against."""

from __future__ import annotations

import json

import pytest

from ckptd.errors import CkptdError
from ckptd.prove.differences import compare_plain, compare_stopped, survey
from ckptd.prove.events import read_events
from ckptd.prove.proof import draw_steps, read_stops
from ckptd.prove.runs import Stopped

KINDS = {"loss": "loss", "w": "parameter", "rng:torch": "rng"}


class Journal:
    """Writes as the agent does: only what changed."""

    def __init__(self, path):
        self.path = path
        self.lines = []
        self.start()

    def start(self):
        self.numbers, self.last = {}, {}
        return self.write("start", 0, {"rng:torch": "0"}, python="3.11.0", device="CPU")

    def write(self, kind, step, values, **more):
        new = []
        for name in values:
            if name not in self.numbers:
                self.numbers[name] = len(self.numbers)
                new.append([name, KINDS.get(name, "variable")])
        changed = {
            self.numbers[name]: [digest, f"<{digest}>"]
            for name, digest in values.items()
            if self.last.get(name) != digest
        }
        gone = [self.numbers[name] for name in self.last if name not in values]
        self.last = values
        self.lines.append({"k": kind, "s": step, "new": new, "v": changed, "gone": gone, **more})
        return self

    def mark(self, kind, step, **more):
        self.lines.append({"k": kind, "s": step, **more})
        return self

    def steps(self, first, last, **spoiled):
        for step in range(first, last + 1):
            values = {"loss": f"l{step}", "w": f"w{step}", "lr": "1", "rng:torch": f"r{step}"}
            self.write("step", step, {**values, **spoiled})
        return self

    def save(self):
        self.path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in self.lines))
        return self.path


@pytest.fixture
def plain(tmp_path):
    return Journal(tmp_path / "plain").steps(1, 6).save()


def stopped(tmp_path, **after):
    """Stopped behind step 3."""
    journal = Journal(tmp_path / "stopped").steps(1, 3).mark("asked", 3)
    journal.write("dumped", 3, {**journal.last, "i": "3"}).start()
    resumed = {"w": "w3", "lr": "1", "rng:torch": "r3", "i": "3", **after}
    return journal.write("resumed", 3, resumed)


def test_only_what_changed_is_written_and_all_is_read(plain):
    events = list(read_events(plain))
    assert [event.kind for event in events] == ["start", *["step"] * 6]
    assert {name: item.digest for name, item in events[4].items.items()} == {
        "loss": "l4", "w": "w4", "lr": "1", "rng:torch": "r4",
    }  # fmt: skip
    found = survey(plain)
    assert (found.steps, found.events) == ([1, 2, 3, 4, 5, 6], 6)
    assert found.kinds == {"loss": 1, "parameter": 1, "rng": 1, "variable": 1}
    assert found.used == {"rng:torch"}


def test_a_line_that_is_cut_off_is_left_out_and_nonsense_is_an_error(plain):
    plain.write_text(plain.read_text() + '{"k":"st')
    assert len(list(read_events(plain))) == 7
    plain.write_text("what\n")
    with pytest.raises(CkptdError, match="can't be read"):
        list(read_events(plain))


def test_no_journal_has_no_events(tmp_path):
    assert survey(tmp_path / "none").events == 0


def test_runs_that_are_the_same(plain, tmp_path):
    assert compare_plain(plain, plain).count == 0
    whole = stopped(tmp_path).steps(4, 6).save()
    assert compare_stopped(plain, whole, set()).count == 0
    assert read_stops(whole) == [Stopped(3, 3, resumed=True)]


def test_only_the_training_makes_a_program_one_of_chance(plain, tmp_path):
    other = Journal(tmp_path / "other").steps(1, 6, lr="2", **{"rng:torch": "x"}).save()
    found = compare_plain(plain, other)
    assert (found.names, found.in_training) == ({"lr", "rng:torch"}, False)
    other = Journal(tmp_path / "other").steps(1, 3).steps(4, 6, w="x").save()
    found = compare_plain(plain, other)
    assert (found.in_training, found.count, found.first[0].step) == (True, 3, 4)
    assert [(change.name, change.plain, change.other) for change in found.first[0].changes] == [
        ("w", "<w4>", "<x>")
    ]


def test_what_comes_back_wrong_is_named_at_the_resume(plain, tmp_path):
    whole = stopped(tmp_path, w="bad").steps(4, 6).save()
    found = compare_stopped(plain, whole, {"w"})
    assert [(each.where, each.step) for each in found.first] == [("resume", 3)]
    assert found.first[0].changes[0].name == "w"


def test_what_goes_wrong_later_is_named_at_its_step(plain, tmp_path):
    whole = stopped(tmp_path).steps(4, 4).steps(5, 6, loss="bad", lr="bad").save()
    found = compare_stopped(plain, whole, {"lr"})
    assert [(each.where, each.step) for each in found.first] == [("step", 5), ("step", 6)]
    assert [change.name for change in found.first[0].changes] == ["loss"]


def test_a_variable_that_is_missing_is_a_difference(plain, tmp_path):
    journal = stopped(tmp_path)
    for step in (4, 5, 6):
        journal.write("step", step, {"loss": f"l{step}", "w": f"w{step}", "rng:torch": f"r{step}"})
    first = compare_stopped(plain, journal.save(), set()).first[0]
    assert (first.step, first.changes[0].name, first.changes[0].other) == (4, "lr", "nothing")


@pytest.mark.parametrize(
    ("last", "plain_has", "other_has"), [(5, "step 6", "nothing"), (7, "nothing", "step 7")]
)
def test_another_number_of_steps_is_a_difference(plain, tmp_path, last, plain_has, other_has):
    first = compare_stopped(plain, stopped(tmp_path).steps(4, last).save(), set()).first[0]
    assert first.where == "length"
    assert (first.changes[0].plain, first.changes[0].other) == (plain_has, other_has)


def test_a_run_that_goes_back_further_is_held_against_the_same_steps(plain, tmp_path):
    journal = stopped(tmp_path).steps(4, 5).mark("asked", 5).start()
    journal.write("resumed", 3, {"w": "w3", "lr": "1", "rng:torch": "r3", "i": "3"})
    assert compare_stopped(plain, journal.steps(4, 6).save(), set()).count == 0
    assert read_stops(journal.path)[1] == Stopped(5, None, resumed=False)


def test_steps_are_drawn_by_the_seed_and_never_the_last():
    steps = list(range(1, 11))
    drawn = draw_steps(steps, 3, seed=7)
    assert drawn == draw_steps(steps, 3, seed=7) == sorted(drawn)
    assert len({*drawn}) == 3
    assert draw_steps(steps, 99, seed=0) == steps[:-1]
    assert draw_steps([1], 3, seed=0) == [1]

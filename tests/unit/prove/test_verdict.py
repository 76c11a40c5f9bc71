"""The words: each outcome has its headline, its exit status, and a table that a pull request can show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ckptd.prove import verdict
from ckptd.prove.differences import Change, Partings, Survey
from ckptd.prove.outputs import Output, Unlike
from ckptd.prove.proof import Proof
from ckptd.prove.runs import Finished, Stopped
from ckptd.prove.scratch import Copied
from ckptd.prove.switches import Remedy

HELPS = "With `torch.manual_seed(0)` they are the same (its first 10 events were tried)."
RESUMED = Stopped(3, 3, resumed=True)


def made(**changes):
    about: dict[str, object] = {"python": "3.11.7", "torch": "2.13", "device": "CPU", "threads": 2}
    plain = Survey(events=9, steps=[1, 2, 3, 4, 5, 6, 7, 8, 9], about=about)
    plain.kinds.update(loss=1, parameter=4, rng=2)
    run = Finished("stopped", 0, 1.0, Output(Path("o"), Path("w"), ["a", "b"]), Path("j"), Path("e"))
    proof = Proof(["python", "my train.py"], 7, 1, Copied(), plain=plain, runs=[run], stops=[RESUMED])
    for name, value in changes.items():
        setattr(proof, name, value)
    return proof


def partings(where, step, *names, kind="parameter", plain="1", other="2"):
    found = Partings()
    found.add(where, step, [Change(name, kind, plain, other) for name in names])
    return found


def test_identical():
    text = verdict.markdown(made())
    assert verdict.judge(made()) == ("identical", 0)
    assert text.startswith("**ckptd prove: identical.** 1 interruption, 9 training steps, nothing differs.\n")
    assert "| command | `python 'my train.py'` |" in text
    assert "| stopped | after steps 3, drawn with --seed 7 |" in text
    assert "at each of 9 training steps: loss, 4 parameters, 2 random generators" in text
    assert "stdout and 2 files byte by byte" in text
    assert "left out" not in text


@pytest.mark.parametrize(
    ("changes", "word", "status", "sentence"),
    [
        (
            {"partings": partings("resume", 3, "model.w")}, "differs", 15,
            "after the stop at step 3, `model.w` did not come back as saved at step 3.",
        ),
        (
            {"partings": partings("step", 5, "loss", "a", "b", "c", "d", kind="loss")}, "differs", 15,
            "after the stop at step 3, step 5 is the first that differs: in `loss`, `a`, `b` and 2 more (2 and not 1).",
        ),
        (
            {"partings": partings("step", 2, "a", other="1")}, "differs", 15,
            "before any stop, step 2 is the first that differs: in `a` (other bytes: 1).",
        ),
        (
            {"unlike": [Unlike("stdout", "line 4", "x", "y")]}, "differs", 15,
            "training is the same, but stdout differs in line 4 (`x` and not `y`).",
        ),
        (
            {"harm": [Unlike("log", "", "there", "not there")]}, "differs", 15,
            "under ckptd, without any interruption, `log` is not there (in the plain run: there).",
        ),
        ({"status": (0, 1)}, "differs", 15, "training is the same, but the exit status is 1, in the plain run 0."),
        (
            {"status": (0, 14), "said": ["step 3 can't be resumed: why; start over with --fresh"]}, "refused", 14,
            "step 3 can't be resumed: why.",
        ),
        (
            {"stops": [Stopped(3, None, resumed=False)], "said": ["could not save: why"]}, "incomplete", 3,
            "0 of 1 interruption took place: could not save: why.",
        ),
        (
            {"chance": partings("step", 1, "loss", kind="loss"), "remedy": Remedy(["torch"], ["torch"], 10)},
            "not deterministic", 16,
            f"two plain runs, nobody stopping them, differ from step 1 on: in `loss` (1 and 2). {HELPS}",
        ),
    ],
)  # fmt: skip
def test_what_is_not_identical(changes, word, status, sentence):
    proof = made(**changes)
    assert verdict.judge(proof) == (word, status)
    assert verdict.headline(proof) == sentence
    assert f"**ckptd prove: {word}.** {sentence[:1].upper()}{sentence[1:]}" in verdict.markdown(proof)
    found = json.loads(json.dumps(verdict.as_map(proof)))
    assert (found["verdict"], found["status"], found["sentence"]) == (word, status, sentence)


def test_no_switch_helps():
    proof = made(chance=partings("step", 1, "loss", kind="loss"), remedy=Remedy())
    assert "None of the usual switches makes them the same" in verdict.headline(proof)


def test_what_plain_runs_do_not_share_is_told_but_no_difference():
    proof = made(chance=partings("step", 1, "began", "rng:python", kind="variable"))
    proof.left_out.lines["stdout"] = {1, 2}
    proof.left_out.clocks["stdout"] = 3
    proof.left_out.patterns.add("run_#")
    assert verdict.judge(proof) == ("identical", 0)
    text = verdict.markdown(proof)
    assert "`began`, `rng:python`: two plain runs differ there" in text
    assert "2 lines of stdout: two plain runs differ there" in text
    assert "3 lines of stdout: differ in nothing but times" in text
    assert "`run_#`: two plain runs differ there" in text


def test_the_table_goes_step_by_step_and_comes_to_an_end():
    found = Partings()
    for step in range(1, 31):
        found.add("step", step, [Change("loss", "loss", f"a|{step}", f"b\n{step}")])
    lines = verdict.markdown(made(partings=found)).splitlines()
    assert "| step 1 | `loss` | a\\|1 | b 1 |" in lines
    assert "| | and at 22 events more | | |" in lines
    assert sum(line.startswith("| step ") for line in lines) == 8

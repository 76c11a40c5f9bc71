"""The harness finds what differs: a comparison that never complains would prove nothing."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import pytest

from harness import FileHas, Line, Outcome, Start, compare, run_plain

PLAIN = Outcome(0, b"one\ntwo\n", b"", {"log.csv": b"a,b\n1,2\n", "model.pt": b"PK\0\1\2\3"})


def changed(**what) -> Outcome:
    return dataclasses.replace(PLAIN, **what)


def test_nothing_differs():
    assert compare(PLAIN, changed(stderr=b"ckptd: resumed\n", processes=[1, 2])) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (changed(status=75), "exit status 75 and not 0"),
        (changed(stdout=b"one\ntwo!\n"), "stdout: line 2 is b'two!' and not b'two'"),
        (changed(stdout=b"one\ntwo\ntwo\n"), "stdout: 3 lines for 2, one too many is b'two'"),
        (changed(stdout=b"one\n"), "stdout: 1 lines for 2, missing is b'two'"),
        (changed(stdout=b"one\r\ntwo\n"), "stdout: differs in its line ends"),
        (changed(files={"model.pt": PLAIN.files["model.pt"]}), "log.csv is missing"),
        (changed(files={**PLAIN.files, "x": b""}), "x is one too many"),
        (
            changed(files={**PLAIN.files, "model.pt": b"PK\0\1\7\3"}),
            "model.pt: 6 bytes for 6, byte 4 is the first that differs",
        ),
    ],
)
def test_what_differs_is_said(other, words):
    assert compare(PLAIN, other) == [words]


def test_another_status_can_be_asked_for():
    assert compare(PLAIN, changed(status=75), status=75) == []


def test_two_parts_make_one_run():
    first = Outcome(75, b"one\n", b"", {"log.csv": b"a"}, [11])
    assert first.then(Outcome(0, b"two\n", b"", PLAIN.files, [12])) == changed(processes=[11, 12])


def test_a_plain_run_is_run_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; open('out', 'w').write(sys.argv[1]); print('hi'); sys.exit(3)")
    first = run_plain([script, "x"], tmp_path / "a")
    assert (first.status, first.stdout, first.files) == (3, b"hi\n", {"out": b"x"})
    assert run_plain([script, "x"], tmp_path / "b") is first
    assert not (tmp_path / "b").exists()
    assert run_plain([script, "y"], tmp_path / "c").files == {"out": b"y"}


class Seen:
    """What a test can see of a run."""

    def __init__(self, cwd: Path, out: bytes = b"", started: float = float("inf")) -> None:
        self.cwd, self.out, self.started = cwd, out, started

    def lines(self) -> list[bytes]:
        return self.out.split(b"\n")[:-1]


def test_moments(tmp_path):
    seen = Seen(tmp_path, b"epoch 1\nepoch 2\nepo")
    assert Line("epoch").has_come(seen)
    assert Line("^epoch", n=2).has_come(seen)
    assert not Line("epo", n=3).has_come(seen)
    assert not FileHas("log.csv").has_come(seen)
    (tmp_path / "log.csv").write_text("a\nb\nc")
    assert FileHas("log.csv", lines=2).has_come(seen)
    assert not FileHas("log.csv", lines=3).has_come(seen)
    assert not Start().has_come(seen)
    assert Start(after=5).has_come(Seen(tmp_path, started=time.monotonic()))


def test_plain_runs_see_nothing_of_ckptd(tmp_path, monkeypatch):
    monkeypatch.setenv("CKPTD_JOB", "12345678")
    script = tmp_path / "script.py"
    script.write_text("import os, sys; print([n for n in os.environ if 'CKPTD' in n], sys.executable)")
    assert run_plain([script], tmp_path / "a").stdout.decode() == f"[] {sys.executable}\n"

"""The harness finds what differs: a comparison that never complains would prove nothing."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import pytest

from ckptd.daemon.names import place_key
from harness import Committed, FileHas, Line, Outcome, Said, Start, compare, leftovers, run_plain, unrepeated

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


@pytest.mark.parametrize(
    ("told", "times", "left"),
    [
        (b"1\n2\n3\n", 0, b"1\n2\n3\n"),
        (b"1\n2\n2\n3\n", 1, b"1\n2\n3\n"),
        (b"1\n2\n1\n2\n3\n", 1, b"1\n2\n3\n"),
        (b"1\n2\n2\n3\n2\n3\n", 2, b"1\n2\n3\n"),
        (b"1\n2\n2\n3\n", 0, b"1\n2\n2\n3\n"),
        (b"1\n3\n", 1, b"1\n3\n"),
        (b"1\n2\n2\n4\n", 1, b"1\n2\n4\n"),
    ],
)
def test_lines_said_again_are_taken_out_and_nothing_else(told, times, left):
    assert unrepeated(b"1\n2\n3\n", told, times) == left


@pytest.mark.parametrize("cut", [b"loss 2loss 1\nloss 2\n", b"lossloss 2\n", b"loss 2\n"])
def test_a_line_cut_by_a_kill_is_taken_out(cut):
    assert unrepeated(b"loss 1\nloss 2\n", b"loss 1\n" + cut, 1) == b"loss 1\nloss 2\n"


def test_leftovers_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    socket = tmp_path / "run" / "ckptd" / f"{place_key('0123abcd', tmp_path / 'store')}.sock"
    socket.parent.mkdir(parents=True)
    socket.touch()
    assert leftovers(tmp_path / "store") == []
    (tmp_path / "store" / "jobs" / "0123abcd").mkdir(parents=True)
    assert leftovers(tmp_path / "store") == [socket]


class Seen:
    """What a test can see of a run."""

    def __init__(self, cwd: Path, out: bytes = b"", started: float = float("inf"), err: bytes = b"") -> None:
        self.cwd, self.out, self.started, self.err = cwd, out, started, err

    def said(self) -> list[bytes]:
        return self.err.split(b"\n")[:-1]

    def lines(self) -> list[bytes]:
        return self.out.split(b"\n")[:-1]


def test_moments(tmp_path):
    seen = Seen(tmp_path, b"epoch 1\nepoch 2\nepo")
    assert Line("epoch").has_come(seen)
    assert Line("^epoch", n=2).has_come(seen)
    assert not Line("epo", n=3).has_come(seen)
    assert Said("could not", n=2).has_come(Seen(tmp_path, err=b"ckptd: could not save\n" * 2))
    assert not Said("could not").has_come(Seen(tmp_path, err=b"ckptd: could not save"))
    assert not FileHas("log.csv").has_come(seen)
    (tmp_path / "log.csv").write_text("a\nb\nc")
    assert FileHas("log.csv", lines=2).has_come(seen)
    assert not FileHas("log.csv", lines=3).has_come(seen)
    assert not Committed(tmp_path).has_come(seen)
    for name in (".tmp-1234abcd", "000000000004-1234abcd"):
        (tmp_path / "jobs" / "00000000" / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "jobs" / "00000000" / "checkpoints" / name / "manifest.json").touch()
    assert Committed(tmp_path).has_come(seen)
    assert not Committed(tmp_path, n=2).has_come(seen)
    assert not Start().has_come(seen)
    assert Start(after=5).has_come(Seen(tmp_path, started=time.monotonic()))


def test_plain_runs_see_nothing_of_ckptd(tmp_path, monkeypatch):
    monkeypatch.setenv("CKPTD_JOB", "12345678")
    script = tmp_path / "script.py"
    script.write_text("import os, sys; print([n for n in os.environ if 'CKPTD' in n], sys.executable)")
    assert run_plain([script], tmp_path / "a").stdout.decode() == f"[] {sys.executable}\n"

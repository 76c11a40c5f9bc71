"""What a person may type, or a script with an empty variable in it: one sentence, and nothing lost."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from faults.walking import GRAPH
from store_fixtures.making import JOB, ROOT, make_checkpoint, make_job, make_segment

from ckptd.cli.main import OF_STORES, main
from ckptd.cli.output import width
from ckptd.store.job import JobRecord
from ckptd.store.verify import verify_checkpoint

SIZES = [("s0", "F32", 24), ("s1", "F64", 24)]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store with a job of three checkpoints, in the working folder."""
    folder = make_job(tmp_path / "store")
    folder.save(JobRecord(JOB, "train", ["python", "train.py"], "/train", 1.7e9))
    for step in range(3):
        make_checkpoint(folder, make_segment(tmp_path / f"segment-{step}", SIZES, GRAPH), step)
    monkeypatch.setenv("CKPTD_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return folder


WRONG = {
    "ps": [["extra"]],
    "ls": [["nojob"], ["--remote", "/nowhere"], ["--remote", ""], ["--sideways"], ["--store", "/dev/null"]],
    "show": [["ffff"], ["--job", ""]],
    "diff": [["latest"], ["latest", "ffff"]],
    "verify": [["ffff"], ["--job", "x"]],
    "export": [["latest"], ["latest", "store", "--format", "dcp", "--force"], ["latest", "/nowhere/x"],
               ["latest", "-"]],
    "copy": [["latest"], ["latest", "--all", "--to", "x"], ["latest", "--to", "/dev/null"], ["--all", "--to", "store"]],
    "pin": [[""], ["latest", "--tag", "a b"], ["../../x"]],
    "rm": [[], ["ffff"], [""]],
    "forget": [[], ["--keep-last", "0"], ["--keep-every", "auto"], ["--keep-every", "0steps"], ["--keep-best", "x"],
               ["--keep-tag", ""], ["--keep-tag", "paper"], ["--keep-best", "3:los"]],
    "prune": [["extra"], ["--remote", ""], ["--remote", "x"]],
    "unlock": [["--force"], ["nojob"]],
}  # fmt: skip


def test_all_verbs_are_here():
    assert set(WRONG) == OF_STORES


@pytest.mark.parametrize("verb", sorted(WRONG))
def test_a_mistake_is_one_sentence_and_json_is_json(verb, store, capfd):
    before = sorted(Path().rglob("*"))
    for words in WRONG[verb]:
        status = main([verb, *words])
        out, err = capfd.readouterr()
        assert status in (2, 10), (words, err)
        assert out == ""
        assert len(err.splitlines()) == 1
        assert err.startswith("ckptd: ")
        assert main([verb, *words, "--json"]) == status
        answer = json.loads(capfd.readouterr().out)
        assert answer == {"error": err.removeprefix("ckptd: ").rstrip("\n"), "status": status}
    assert sorted(Path().rglob("*")) == before


def test_a_verb_that_has_answered_answers_once(store, capfd):
    newest = max(store.checkpoints.iterdir())
    (newest / "manifest.json").write_text("{")
    assert main(["verify", "--json"]) == 13
    assert [row["state"] for row in json.loads(capfd.readouterr().out)] == ["complete", "complete", "damaged"]
    assert main(["show", newest.name[13:], "--json"]) == 13
    assert json.loads(capfd.readouterr().out)["status"] == 13


def test_force_replaces_an_export_and_nothing_else(store, tmp_path, capfd):
    mine = tmp_path / "mine"
    (mine / "deep").mkdir(parents=True)
    (mine / "deep" / "thesis.tex").write_text("years")
    (tmp_path / "link").symlink_to(mine)
    for to in ("mine", "link", "segment-0"):
        assert main(["export", "latest", to, "--format", "dcp", "--force"]) == 2
        assert "is no exported checkpoint" in capfd.readouterr().err
    assert (mine / "deep" / "thesis.tex").read_text() == "years"
    for _ in range(2):
        assert main(["export", "latest", "out", "--format", "dcp", "--force"]) == 0, capfd.readouterr().err
    assert (tmp_path / "out" / ".metadata").exists()


def on_terminal(words, columns, **variables):
    """What a verb shows on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": str(columns), **variables}
    with subprocess.Popen([sys.executable, "-m", "ckptd", *words], stdout=theirs, stderr=theirs, env=env):
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # EIO: the other end is closed
            pass
        os.close(ours)
    return shown.decode()


@pytest.mark.parametrize(
    "words", [["ls"], ["show"], ["verify"], ["forget", "--keep-last", "1", "-n"], ["ps"]], ids=" ".join
)
def test_narrow_terminals_and_no_colour(store, words):
    shown = on_terminal(words, 40, NO_COLOR="1")
    assert "\x1b" not in shown
    assert "Traceback" not in shown
    if words != ["show"]:  # its heading has paths, which are whole
        assert max(map(width, shown.splitlines())) <= 40, shown
    wide = on_terminal(words, 120)
    assert "\x1b[1m" in wide


def test_a_full_or_closed_output_is_one_line(store):
    for redirect in ("> /dev/full", "| head -c 1 > /dev/null"):
        done = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m ckptd ls --json {redirect}"],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 1


def test_ctrl_c_in_the_middle_of_a_copy(store, tmp_path):
    """What it has begun is swept by the next one; what is listed there is whole."""
    code = (
        "import os, signal, sys\n"
        "from ckptd.store import transfer\n"
        "own, calls = transfer._copy_file, []\n"
        "def interrupted(*words):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 6: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return own(*words)\n"
        "transfer._copy_file = interrupted\n"
        "from ckptd.cli.main import main\n"
        "sys.exit(main(['copy', '--all', '--to', 'other']))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode in (130, -signal.SIGINT), done.stderr
    assert "Traceback" not in done.stderr
    other = tmp_path / "other" / "jobs" / JOB
    assert list((other / "work").iterdir()) == []
    for path in (other / "checkpoints").iterdir():
        verify_checkpoint(path)
    assert main(["copy", "--all", "--to", "other"]) == 0
    assert len(list((other / "checkpoints").iterdir())) == 3

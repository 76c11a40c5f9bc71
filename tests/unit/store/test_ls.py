"""ckptd ls, as a person and as a program see it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from store_fixtures.making import JOB, ROOT, make_checkpoint, make_segment

from ckptd.cli.ls import ls
from ckptd.cli.output import printable
from ckptd.errors import NoStoreError, UsageError
from ckptd.store.job import JobRecord
from ckptd.store.layout import JobFolder, open_store

RECORD = JobRecord(JOB, "digits", ["python", "digits.py"], "/train", 1760000000.0)


@pytest.fixture
def store(tmp_path: Path, folder: JobFolder, segment: Path) -> Path:
    """Two jobs: one with two checkpoints, the older of them damaged, and one without any."""
    folder.save(RECORD)
    old = make_checkpoint(folder, segment, 100, id="aaaaaaaa")
    make_checkpoint(folder, segment, 200, id="bbbbbbbb", reason="signal")
    (old / "manifest.json").write_text("{")
    other = open_store(tmp_path / "store").job("01ffffff")
    other.save(replace(RECORD, id="01ffffff", name="empty"))
    return tmp_path / "store"


def run(*args: object) -> str:
    result = CliRunner().invoke(ls, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_table(store):
    lines = run("--store", store).splitlines()
    assert lines[0].split() == ["ID", "JOB", "STEP", "WHEN", "SIZE", "NEW", "REASON", "LOSS", "STATE"]
    assert lines[1].split() == ["aaaaaaaa", "digits", "100", "-", "-", "-", "-", "-", "damaged"]
    row = r"bbbbbbbb +digits +200 +\d+ s ago +54 B +4\.\d kB +signal +0\.25 +complete *"
    assert re.fullmatch(row, lines[2])
    assert lines[3].endswith("manifest.json is cut short or damaged: its own hash is not in it")
    assert len(lines) == 4


def test_json_has_everything(store):
    damaged, good = json.loads(run("--store", store, "--json"))
    assert set(damaged) == set(good)
    assert (damaged["id"], damaged["step"], damaged["state"]) == ("aaaaaaaa", 100, "damaged")
    assert "manifest.json" in damaged["error"]
    assert (damaged["nbytes"], damaged["facts"], damaged["loss"]) == (None, None, None)
    assert (good["id"], good["step"], good["state"], good["error"]) == ("bbbbbbbb", 200, "complete", None)
    assert (good["job"], good["job_name"], good["loss"]) == (JOB, "digits", 0.25)
    assert good["job_record"]["argv"] == ["python", "digits.py"]
    assert good["nbytes"] == good["content"] == 54
    assert Path(good["path"]).is_dir()


@pytest.mark.parametrize(("wanted", "count"), [("digits", 2), (JOB, 2), ("012", 2), ("empty", 0), ("01f", 0)])
def test_one_job_by_name_or_beginning_of_its_id(store, wanted, count):
    assert len(json.loads(run(wanted, "--store", store, "--json"))) == count
    if count == 0:
        assert run(wanted, "--store", store) == f"no checkpoints of {wanted} in {store}\n"


@pytest.mark.parametrize(
    ("wanted", "words"), [("01", f"01ffffff, {JOB}|{JOB}, 01ffffff"), ("no", "no job 'no' in")]
)
def test_a_job_that_is_not_there_or_not_one(store, wanted, words):
    with pytest.raises(UsageError, match=words):
        run(wanted, "--store", store)


def test_the_store_from_the_environment_and_none_at_all(store, monkeypatch, tmp_path):
    monkeypatch.setenv("CKPTD_STORE", str(store))
    assert "bbbbbbbb" in run()
    monkeypatch.setenv("CKPTD_STORE", str(tmp_path / "none"))
    with pytest.raises(NoStoreError, match="there is no store at"):
        run()
    assert not (tmp_path / "none").exists()


def test_an_empty_store(tmp_path):
    open_store(tmp_path / "s")
    assert run("--store", tmp_path / "s") == f"no checkpoints in {tmp_path / 's'}\n"
    assert json.loads(run("--store", tmp_path / "s", "--json")) == []


def test_a_damaged_job_record_hides_no_checkpoint(store, folder):
    (folder.path / "job.json").write_text("{")
    text = run("--store", store)
    assert f"bbbbbbbb  {JOB}" in text
    assert "job.json is damaged" in text
    assert json.loads(run("--store", store, "--json"))[1]["job_record"] is None


@pytest.mark.parametrize("loss", [float("nan"), None, True, "\x1b[31m", [1], 1e-9, 123456.789])
def test_any_loss_is_shown(folder, tmp_path, loss):
    folder.save(replace(RECORD, name="\x1b]0;evil\x07[red]é\udcff"))
    make_checkpoint(folder, make_segment(tmp_path / "s", facts={"loss": loss}), 1)
    text = run("--store", tmp_path / "store")
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]é" in text
    value = json.loads(run("--store", tmp_path / "store", "--json"))[0]["loss"]
    assert value == (loss if isinstance(loss, float) and loss == loss else None)
    if loss != loss:
        assert " NaN " in text


def test_printable():
    assert printable("a\x1b[0mé\n\udc80") == "a\ufffd[0mé\ufffd\ufffd"


def on_terminal(store: Path, columns: int, **env: str) -> str:
    """What ls writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm",
        "COLUMNS": str(columns),
        **env,
    }
    code = "from ckptd.cli.ls import ls; ls()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "--store", str(store)], stdout=theirs, stdin=theirs, env=environment
    ) as process:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 4096):
                parts.append(part)
        except OSError:  # EIO: the other end is closed
            pass
        os.close(ours)
        assert process.wait() == 0
    return b"".join(parts).decode()


def test_it_fits_the_terminal(store, folder):
    folder.save(replace(RECORD, name="a-name-that-is-much-longer-than-any-column-should-be-wide"))
    for columns in (72, 100):
        shown = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal(store, columns, NO_COLOR="1"))
        table = shown.splitlines()[:3]
        assert all(len(line) <= columns for line in table), table
        assert "…" in table[2]
        assert table[2].startswith("bbbbbbbb ")
        assert "complete" in table[2]


def test_colour_only_where_it_is_wanted(store):
    assert "\x1b[31m" in on_terminal(store, 100)
    assert "\x1b[31m" not in on_terminal(store, 100, NO_COLOR="1")


def test_rich_is_not_loaded_before_it_is_needed():
    code = "import sys, ckptd.cli.ls; print('rich' in sys.modules, 'torch' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_secret_in_the_command_is_kept_in_the_record_and_shown_nowhere(store, folder):
    word = "hf_aBcDeFgHiJkLmNoP123"
    folder.save(replace(RECORD, argv=["python", "digits.py", "--token", word, f"--hub-key={word}"]))
    assert folder.load().argv[3] == word  # the same command is the same command
    assert (folder.path / "job.json").stat().st_mode & 0o7777 == 0o600
    for verb in (["ls", "--json"], ["ps"], ["ps", "--json"], ["unlock", "--json"]):
        command = [sys.executable, "-m", "ckptd", *verb, "--store", str(store)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        assert word not in done.stdout + done.stderr, verb
        if verb[0] != "unlock":
            assert "***" in done.stdout

"""``ckptd status``: where a job stands, how often it is saved, and what a failure would cost."""

from __future__ import annotations

import json
import subprocess
import sys

STOPPED = 75


def checkpoints(run):
    return list(run.store.glob("jobs/*/checkpoints/*"))


def ask(run, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ckptd", "status", "--store", str(run.store), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_follows_a_job_from_its_first_checkpoint_to_its_end(fake):
    run = fake(300, flags=["--every", "0.2s"])
    run.until(lambda: checkpoints(run), "a checkpoint")
    run.until(lambda: "saved:      checkpoint" in ask(run).stdout, "its record")
    told = json.loads(ask(run, "fake_agent", "--json").stdout)
    assert told["state"] in {"running", "dumping", "saving"}
    assert told["cost"]["steps"] >= 0
    assert 0 <= told["cost"]["seconds"] < 30
    assert "a failure:  now would cost" in ask(run).stdout
    run.process.terminate()
    assert run.wait() == STOPPED
    ended = json.loads(ask(run, "--json").stdout)
    assert ended["state"] == "stopped"
    assert ended["cost"] == {"steps": 0, "seconds": 0.0}


def test_what_ckptd_chose_is_said(fake):
    run = fake(300)
    run.line("3")
    run.until(lambda: "periodic:" in ask(run).stdout, "its record")
    assert "periodic:   every 60 s until the first has shown what one costs" in ask(run).stdout
    assert "saved:      nothing yet" in ask(run).stdout
    run.process.terminate()
    assert run.wait() == STOPPED


def test_a_job_that_is_not_there_and_one_of_several(fake):
    run = fake(5, flags=["--name", "one"])
    assert run.wait() == 0
    missing = ask(run, "other")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("ckptd: no job 'other' in")
    again = fake(5, flags=["--name", "two"])
    assert again.wait() == 0
    assert ask(again).stderr.startswith("ckptd: which job? There are 2 here: one, two")

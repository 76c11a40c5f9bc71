"""``ckptd status``: where a job stands, how often it is saved, and what a failure would cost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

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


def test_sources_of_notices_and_notices_that_stand(fake, tmp_path):
    leave = tmp_path / "leave"
    run = fake(5000, flags=["--notices", f"file:{leave}", "--on-notice", "stay"])
    run.line("3")
    run.until(lambda: "file ok" in ask(run).stdout, "the source")
    assert "agent:      in process" in ask(run).stdout
    leave.write_text('{"in": "2m", "text": "the host is needed elsewhere"}')
    run.until(lambda: json.loads(ask(run, "--json").stdout)["live"]["standing"], "the notice")
    live = json.loads(ask(run, "--json").stdout)["live"]
    assert live["answered"]
    assert live["agent"] == run.child().pid
    assert [(each["source"], each["state"]) for each in live["notices"]] == [("file", "ok")]
    assert "notice:     the host is needed elsewhere (1" in ask(run).stdout


def test_a_ckptd_that_doesnt_answer_is_not_waited_for(fake):
    run = fake(5000)
    run.line("3")
    run.until(lambda: json.loads(ask(run, "--json").stdout)["live"]["answered"], "an answer")
    run.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    live = json.loads(ask(run, "--json").stdout)["live"]
    took = time.monotonic() - began
    shown = ask(run).stdout
    run.process.send_signal(signal.SIGCONT)
    assert not live["answered"]
    assert live["agent"] is None
    assert "answers:    nobody: this is what the job's record says" in shown
    assert took < 5  # with the start of Python, on a machine that has other things to do

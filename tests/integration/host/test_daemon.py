"""The daemon: jobs that outlive the terminal, the daemon itself, and a reboot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from faults import fileops

from ckptd.daemon.processes import process_id
from ckptd.errors import LockedError, NoDaemonError
from harness.hosts import Host


def lines(count: int) -> list[str]:
    """What a job writes that is not stopped, and one that is, all told."""
    return [str(step) for step in range(1, count + 1)]


def test_a_detached_job_runs_to_its_end(host):
    host.start()
    job = host.job(30, child="no")
    assert host.ended()["exit_status"] == 0
    assert host.output(job) == lines(30)
    assert host.ckptd("logs", job).stdout.splitlines() == host.output(job)
    assert host.ckptd("logs", "-n", "2", job).stdout.splitlines() == host.output(job)[-2:]
    assert "started job" in host.log()


def test_without_a_daemon_a_detached_job_is_refused(host):
    done = host.ckptd("run", "-d", "--", "python", "train.py", check=False)
    assert done.returncode == NoDaemonError.status
    assert "ckptd daemon install" in done.stderr


def test_one_daemon_a_store(host):
    host.start()
    done = host.ckptd("daemon", check=False)
    assert done.returncode == LockedError.status
    assert f"process {host.daemon.pid}" in done.stderr


def test_a_job_that_cant_be_started_says_why(host):
    host.start()
    (host.folder / "gone").mkdir()
    done = host.ckptd("run", "-d", "--", "./not-there", check=False)
    assert done.returncode == 127
    job = host.job(20)
    host.ended()
    done = host.ckptd("resume", job, check=False)
    assert done.returncode == 14
    assert "has finished" in done.stderr


def test_dump_stop_resume(host):
    host.start()
    job = host.job(400)
    host.steps(job, 5)
    saved = host.json("dump", job)
    assert saved["step"] >= 5
    assert host.row()["checkpoint"] == saved["checkpoint"]
    told = host.ckptd("stop", job).stdout
    assert "stopped at checkpoint" in told
    row = host.row()
    assert row["state"] == "stopped"
    assert row["pid"] is None
    steps = len(host.output(job))
    host.ckptd("resume", job)
    host.steps(job, steps + 5)
    assert "goes on from step" in host.log()
    assert host.ckptd("resume", job, check=False).returncode == LockedError.status
    host.ckptd("stop", "--unsaved", job)
    assert host.row()["state"] in ("stopped", "failed")


def test_stop_holds_over_a_restart_of_the_daemon(host):
    host.start()
    job = host.job(1000)
    host.steps(job, 3)
    host.ckptd("stop", job)
    assert host.stop() == 0
    host.start()
    assert host.row()["state"] == "stopped"
    assert host.json("daemon", "status")["jobs"] == {}


def test_the_end_of_the_daemon_saves_all_jobs_and_its_start_takes_them_up(host):
    host.start()
    jobs = [host.job(300, name) for name in ("one", "two", "three")]
    for job in jobs:
        host.steps(job, 5)
    assert host.stop() == 0
    assert {row["state"] for row in host.rows()} == {"stopped"}
    host.start()
    for name, job in zip(("one", "two", "three"), jobs, strict=True):
        host.ended(name)
        assert [line for line in host.output(job) if "saved" not in line] == lines(300)


def test_a_daemon_that_is_killed_leaves_its_jobs_alone(host):
    host.start()
    job = host.job(200)
    host.steps(job, 3)
    row = host.row()
    host.kill()
    host.start()
    again = host.row()
    assert (again["pid"], again["supervisor"], again["attempt"]) == (row["pid"], row["supervisor"], 1)
    host.until(lambda: host.json("daemon", "status")["jobs"], "the job to be found")
    host.ckptd("dump", job)
    assert host.ended()["attempt"] == 1


def test_a_daemon_renews_itself_in_place(host):
    host.start()
    job = host.job(200)
    host.steps(job, 3)
    row = host.row()
    host.daemon.send_signal(signal.SIGHUP)
    host.until(lambda: host.log().count("daemon of") == 2, "the new daemon")
    assert host.daemon.poll() is None
    host.until(lambda: host.json("daemon", "status")["jobs"], "the job to be found")
    assert host.row()["pid"] == row["pid"]
    assert host.ended()["attempt"] == 1
    host.until(lambda: not _zombies(host.daemon.pid), "the children to be reaped")


def _zombies(pid: int) -> list[psutil.Process]:
    return [each for each in psutil.Process(pid).children() if each.status() == psutil.STATUS_ZOMBIE]


def another_ckptd(host: Host, count: int) -> None:
    """So many times the job was taken over, and its agent has answered."""
    told = "looking after it again"
    host.until(lambda: host.log().count(told) == count and host.row()["state"] == "running", "another ckptd")


TRAINING = """\
import os, time
import torch

torch.manual_seed(0)
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(1, 10_000):
    loss = model(torch.randn(2, 4)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, f"{loss.item():.9f}", flush=True)
    time.sleep(0.01)
    if os.path.exists("enough"):
        break
print("done")
"""


def test_a_ckptd_that_is_killed_is_replaced_and_its_program_goes_on(host):
    host.start()
    job = host.script(TRAINING)
    host.steps(job, 3)
    row = host.row()
    for count in (1, 2):
        os.kill(host.row()["supervisor"], signal.SIGKILL)
        another_ckptd(host, count)
        host.until(lambda: host.row()["pid"] == row["pid"], "the same program")
    host.ckptd("dump", job)
    os.kill(row["pid"], signal.SIGTERM)
    host.until(lambda: host.row()["state"] == "running" and host.row()["attempt"] == 2, "the second start")
    # The last one dies with the daemon: it comes to its end while nobody looks after it.
    row = host.row()
    program = process_id(row["pid"])
    host.kill()
    os.kill(row["supervisor"], signal.SIGKILL)
    (host.folder / "enough").touch()
    host.until(lambda: not program.alive(), "the end of the program")
    host.start()
    assert host.ended()["attempt"] == 2, host.log()
    assert "came to its end while its ckptd was gone" in host.log()
    *steps, done = host.output(job)
    assert done == "done"
    assert [int(line.split()[0]) for line in steps] == list(range(1, len(steps) + 1))


def test_an_agent_that_is_back_before_its_program_is_known_again_is_heard(host):
    """On a disk so slow that the new ckptd still reads what is there when the agent has found it."""
    if fileops.compiler() is None:
        pytest.skip("needs a C compiler")
    fault = fileops.Fault(host.folder / "fault")
    host.env.update(fileops.preload(fileops.build(host.folder), host.store, FAULT=fault.file))
    host.start()
    job = host.script(TRAINING)
    host.steps(job, 3)
    host.ckptd("dump", job)
    fault.set(milliseconds=60, reads=True)
    os.kill(host.row()["supervisor"], signal.SIGKILL)
    try:
        host.until(lambda: "looking after it again" in host.log(), "another ckptd")
    finally:
        fault.clear()
    another_ckptd(host, 1)
    host.ckptd("dump", job)
    host.ckptd("stop", job)
    assert host.row()["attempt"] == 1


def test_program_and_ckptd_are_killed_together(host):
    host.start()
    job = host.job(300, flags=("--every", "10steps"), due="yes")
    host.until(lambda: host.row()["checkpoint"], "a checkpoint")
    row = host.row()
    os.kill(row["supervisor"], signal.SIGKILL)
    os.kill(row["pid"], signal.SIGKILL)
    host.until(lambda: host.row()["attempt"] == 2, "the second start")
    assert host.ended()["exit_status"] == 0
    steps = [int(line) for line in host.output(job) if line.isdigit()]
    cut = next((at for at in range(1, len(steps)) if steps[at] != steps[at - 1] + 1), len(steps))
    first, second = steps[:cut], steps[cut:]
    assert first == list(range(1, len(first) + 1))  # up to the kill
    assert second == list(range(301 - len(second), 301))  # and from the checkpoint on
    assert len(first) + len(second) >= 300 > len(second)


def test_a_copy_in_memory_outlives_ckptd_and_its_program(host):
    """Both are killed when the copy is complete and nothing of it is on the disk."""
    host.start()
    job = host.job(10_000, flags=("--every", "never"), dump="long")
    host.steps(job, 5)
    row = host.row()
    asking = subprocess.Popen(
        [sys.executable, "-m", "ckptd", "dump", job], env=host.env, cwd=host.folder, stderr=subprocess.PIPE
    )
    host.until(lambda: any("asked" in line for line in host.output(job)), "the request to reach the program")
    os.kill(row["supervisor"], signal.SIGSTOP)
    host.until(lambda: any("copied" in line for line in host.output(job)), "the copy")
    step = next(line.split()[1] for line in host.output(job) if "copied" in line)
    os.kill(row["pid"], signal.SIGKILL)
    os.kill(row["supervisor"], signal.SIGKILL)
    assert asking.wait(20) == NoDaemonError.status
    assert b"nobody answers" in asking.communicate()[1]
    host.until(lambda: host.row()["attempt"] == 2, "the second start")
    assert f"saved step {step} from memory" in host.log()
    assert f"goes on from step {step}" in host.log()
    assert host.row()["checkpoint"] is not None


def test_attach_follows_and_has_the_jobs_status(host):
    host.start()
    job = host.job(300, crash="250:3", flags=("--max-restarts", "0", "--every", "never"))
    done = host.ckptd("attach", job, check=False)
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1] == host.output(job)[-1]


def test_a_foreground_job_takes_requests_too(host):
    with host.front(1000) as run:
        assert host.json("dump", "front")["checkpoint"]
        assert host.ckptd("stop", "front").returncode == 0
        run.communicate(timeout=30)
        assert run.returncode == 75


def test_a_notice_reaches_all_jobs_and_one_withdrawn_brings_them_back(host):
    leave = host.folder / "leave"
    host.start("--notices", f"file:{leave}")
    jobs = [host.job(10_000, name, flags=("--on-notice", "leave")) for name in ("one", "two")]
    for job in jobs:
        host.steps(job, 3)
    leave.write_text("60s")
    for name in ("one", "two"):
        host.ended(name, "stopped")
    assert host.json("daemon", "status")["standing"][0]["source"] == "file"
    leave.unlink()
    for name in ("one", "two"):
        host.until(lambda name=name: host.row(name)["state"] == "running", f"{name} to come back")
        assert host.row(name)["attempt"] == 2
    assert host.stop() == 0

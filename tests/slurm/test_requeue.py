"""Real jobs, by the sbatch scripts of examples/slurm: told to go, queued again, and gone on with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.outcome import environment

from .conftest import missing, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples" / "slurm"
STEPS = 1000
"""More than there is time for up to the limit."""
TRAINING = f"""
import os, time, torch

torch.manual_seed(1)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.Adam(model.parameters())
for step in range({STEPS}):
    loss = (model(torch.randn(4, 8)) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {{step}} {{loss.item():.8f}}", flush=True)
    if "SLURM_JOB_ID" in os.environ and "SLURM_RESTART_COUNT" not in os.environ:
        time.sleep(0.05)
"""


def steps(text: str) -> list[str]:
    """The program's own lines."""
    return [line for line in text.splitlines() if line.startswith("step ")]


@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
def test_preempted_or_out_of_time_a_job_goes_on_where_it_was(cluster, tmp_path):
    """Three jobs at once, as each waits for Slurm most of the time."""
    (tmp_path / "train.py").write_text(TRAINING)
    words = tmp_path / "bin"  # what the scripts call by name
    words.mkdir()
    for name, command in (("ckptd", f"{sys.executable} -m ckptd"), ("python", sys.executable)):
        (words / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (words / name).chmod(0o755)
    env = environment(
        {"PATH": f"{words}:/usr/sbin:/usr/bin:/sbin:/bin", "CKPTD_STORE": str(tmp_path / "store")}
    )
    # The limit is looked at each 30 s, and a signal may come a minute early.
    limit = ["--partition=high", "--time=1"]
    chosen = {
        "limit, batch": ["batch.sbatch", *limit, "--signal=B:USR2@25"],
        "limit, step": ["step.sbatch", *limit, "--signal=USR2@25"],
        "preempted, step": ["step.sbatch", "--partition=low"],
    }
    logs = {name: tmp_path / f"{number}.log" for number, name in enumerate(chosen)}

    def told() -> str:
        shown = "\n".join(
            f"---- {name}\n{log.read_text()[-1500:]}" for name, log in logs.items() if log.exists()
        )
        return shown + cluster.told()

    def submit(script: Path, *flags: str) -> str:
        there = f"--chdir={tmp_path}"
        return cluster.ask("sbatch", "--parsable", there, *flags, script, **env)

    jobs = {
        name: submit(EXAMPLES / script, *flags, f"--output={logs[name]}")
        for name, (script, *flags) in chosen.items()
    }
    assert all(jobs.values()), told()
    plain = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    preempted = "preempted, step"
    wait_for(lambda: logs[preempted].exists() and len(steps(logs[preempted].read_text())) > 20, told)
    sleep = tmp_path / "sleep.sbatch"
    sleep.write_text("#!/bin/sh\nsleep 1\n")
    assert submit(sleep, "--partition=high", "--cpus-per-task=2", "--output=/dev/null"), told()
    waiting = dict(jobs)
    while waiting:  # each is queued again, for two minutes from now; sooner it is, but not in the same second
        again = wait_for(
            lambda: [name for name, ident in waiting.items() if cluster.job(ident).get("Restarts") == "1"],
            told,
        )
        for name in again:
            cluster.ask("scontrol", "update", f"JobId={waiting.pop(name)}", "StartTime=now+2")
    wait_for(lambda: all(cluster.job(ident).get("JobState") == "COMPLETED" for ident in jobs.values()), told)
    for name in jobs:
        log = logs[name].read_text()
        assert steps(log) == steps(plain.stdout), f"{name}\n{log[-3000:]}"
        cause = "SIGUSR2" if name.startswith("limit") else "SIGTERM"
        assert log.count(f"{cause}: saved step") == 1, log
        assert log.count("ckptd: resumed at step") == 1

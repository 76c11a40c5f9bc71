"""``ckptd drill``: a notice is played to a job for real, and the job goes on."""

from __future__ import annotations

import json

import pytest

from ckptd.errors import NoDaemonError, NotDrilledError, UsageError
from harness.hosts import Host


def names(told) -> list[str]:
    return [phase["name"] for phase in told["phases"]]


def steps(host: Host, job: str) -> list[int]:
    """The steps that a job has printed."""
    return [int(line.split()[0]) for line in host.output(job) if line.split()[0].isdigit()]


def test_a_job_is_saved_in_time_and_goes_on(host):
    host.start()
    job = host.job(400)
    host.steps(job, 5)
    told = host.json("drill", "aws", job)
    assert names(told) == [
        "heard", "asked", "safe point", "copied", "durable", "exited", "relaunched", "resumed", "first step",
    ]  # fmt: skip
    assert told["holds"]
    assert (told["told"], told["deadline"]) == (120, 120)
    assert 100 < told["margin"] < 120
    assert told["resumed_step"] == told["saved_step"] >= 5
    after = [phase["after"] for phase in told["phases"]]
    assert after == sorted(after)
    assert after[0] >= 0
    assert [phase["share"] is None for phase in told["phases"]] == [False] * 6 + [True] * 3
    host.running(attempt=2)
    assert host.json("status", job)["state"] == "running"
    shown = host.ckptd("drill", "sigterm", job).stdout
    assert "holds: " in shown
    assert "first step" in shown
    host.running(attempt=3)
    seen = steps(host, job)
    assert seen == list(range(1, len(seen) + 1))


def test_what_is_too_late_is_measured_and_harms_nothing(host):
    host.start()
    job = host.job(1000, dump="slow")
    host.steps(job, 5)
    done = host.ckptd("drill", "systemd", job, "--grace", "0.2s", check=False)
    assert done.returncode == 1
    assert "too late by 0." in done.stdout
    assert "came to its next safe point only after 0." in done.stdout
    assert "goes on from step" not in host.log()
    host.running(attempt=2)
    told = json.loads(host.ckptd("drill", "systemd", "--in", "0.2s", job, "--json", check=False).stdout)
    assert -5 < told["margin"] < 0
    assert told["mend"] == "TimeoutStopSec=5"
    assert told["resumed_step"] == told["saved_step"]
    assert "killed" not in host.log()
    seen = steps(host, job)
    assert seen == list(range(1, len(seen) + 1))


def test_the_upload_is_a_phase(host):
    host.start()
    remote = (host.folder / "remote").as_uri()
    job = host.job(1000, flags=("--remote", remote))
    host.steps(job, 5)
    told = host.json("drill", "aws", job)
    assert told["holds"]
    phases = {phase["name"]: phase for phase in told["phases"]}
    assert phases["durable"]["after"] <= phases["uploaded"]["after"]
    assert told["margin"] == pytest.approx(120 - phases["uploaded"]["after"])


@pytest.mark.parametrize("source", ["sigterm", "logind"])
def test_played_to_the_end_the_job_leaves(host, source):
    with host.front(5000) as run:
        told = host.json("drill", source, "--leave", "front")
        run.communicate(timeout=30)
        assert run.returncode == 75
    assert told["holds"]
    assert names(told)[-3:] == ["durable", "exited", "ended"]
    assert host.row("front")["state"] == "stopped"


def test_a_dump_that_fails_is_no_loss_of_the_job(host):
    host.start()
    job = host.job(1000, dump="refuse")
    host.steps(job, 5)
    done = host.ckptd("drill", "gcp", job, check=False)
    assert done.returncode == 1
    assert "not saved: a step inside a generator can't be saved" in done.stdout
    host.running(attempt=1)
    host.until(lambda: "the drill (GCP spot) is over" in host.log(), "the drill's end")


def test_what_cant_be_drilled_is_refused(host):
    host.start()
    job = host.job(1000, hello="no")
    done = host.ckptd("drill", "aws", job, check=False)
    assert done.returncode == NotDrilledError.status
    assert "can't be saved, so there is nothing to drill" in done.stderr
    assert host.ckptd("drill", "sigterm", "--in", "3s", job, check=False).returncode == UsageError.status
    host.ckptd("stop", "--unsaved", job)
    done = host.ckptd("drill", "aws", job, check=False)
    assert done.returncode == NoDaemonError.status


TRAINING = """\
import torch

torch.manual_seed(0)
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.Adam(model.parameters())
for step in range(1, 100_000):
    loss = model(torch.randn(4, 8)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(step, f"{loss.item():.9f}", flush=True)
"""


def test_a_torch_program_is_drilled_and_goes_on_exactly(host):
    host.start()
    job = host.script(TRAINING)
    host.steps(job, 2)
    told = host.json("drill", "gke", job)
    assert told["holds"], told
    assert told["resumed_step"] == told["saved_step"]
    assert names(told)[-3:] == ["relaunched", "resumed", "first step"]
    host.running(attempt=2)
    count = len(host.output(job))
    host.steps(job, count + 1)
    seen = steps(host, job)
    assert seen == [50 * number for number in range(1, len(seen) + 1)]

"""Programs of several training processes: saving one of them alone is refused, and they train on unharmed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import Action, Line, LiveRun, Said

RANKS = """\
import os, sys, time
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(60):
    loss = model(torch.randn(2, 4)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
    optimizer.step()
    if dist.get_rank() == 0:
        print("step", step, f"{loss.item():.9f}", flush=True)
    time.sleep(0.03)
dist.destroy_process_group()
"""
BESIDE = """\
import sys, time
import torch

model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(int(sys.argv[2])):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    print(sys.argv[1], step, flush=True)
    time.sleep(0.03)
"""


def lines(data: bytes) -> list[bytes]:
    return [line for line in data.splitlines() if line.startswith(b"step ")]


def test_several_ranks_are_not_saved_one_by_one(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    plain = subprocess.run([sys.executable, *command], capture_output=True, check=True, cwd=tmp_path)
    store = tmp_path / "store"
    with LiveRun(command, tmp_path / "run", store=store, options=("-v",), deadline=90) as run:
        run.act(Action(Said("train beside each other"), to="ckptd"))
        run.act(
            Action(Said("could not save: .*train beside each other.*; training goes on"), signal=0, same=True)
        )
        outcome = run.wait()
    assert outcome.status == 0, outcome.stderr.decode()
    assert lines(outcome.stdout) == lines(plain.stdout)
    assert list(store.glob("jobs/*/checkpoints/*")) == []


def test_one_rank_of_several_on_other_machines_is_not_saved_alone(tmp_path: Path) -> None:
    """Each machine has one process of the job: what tells is the size of the world."""
    script = tmp_path / "rank.py"
    script.write_text(BESIDE)
    store = tmp_path / "store"
    with LiveRun(
        [str(script), "step", "100"], tmp_path / "run", store=store, options=("-v",), env={"WORLD_SIZE": "2"},
        deadline=60,
    ) as run:  # fmt: skip
        run.act(Action(Line("step 3"), to="ckptd"))
        run.act(Action(Said("could not save: it is one of 2 ranks"), signal=0, same=True))
        outcome = run.wait()
    assert outcome.status == 0, outcome.stderr.decode()
    assert len(lines(outcome.stdout)) == 100
    assert list(store.glob("jobs/*/checkpoints/*")) == []

"""A job's record that is not what it was: a resume goes by the checkpoint, every byte of which is verified."""

from __future__ import annotations

import json
from pathlib import Path

from harness import Action, Line, run_ckptd

PROGRAM = """\
import time
import torch

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
for step in range(60):
    loss = model(torch.randn(2, 4)).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("step", step, hash("word"), flush=True)
    time.sleep(0.01)
"""


def test_a_record_that_is_damaged_is_found_out_and_can_be_done_without(tmp_path: Path) -> None:
    script, store = tmp_path / "train.py", tmp_path / "store"
    script.write_text(PROGRAM)
    stop = Action(Line("^step 10 "), to="ckptd")
    stopped = run_ckptd([script], tmp_path / "run", store=store, actions=[stop])
    assert stopped.status == 75, stopped.stderr.decode()
    (record,) = store.glob("jobs/*/job.json")
    seed = json.loads(record.read_text())["hashseed"]
    record.write_bytes(record.read_bytes().replace(seed.encode(), f"{int(seed) ^ 1}".encode()))
    refused = run_ckptd([script], tmp_path / "run", store=store)
    assert refused.status == 13
    assert refused.stdout == b""
    assert b"job.json is damaged (it doesn't match its own hash)" in refused.stderr
    assert b"move it away, and the job's command goes on" in refused.stderr
    record.rename(tmp_path / "moved away")
    # Sets of strings keep their order all the same, though the new record has another seed, or as here none.
    resumed = run_ckptd([script], tmp_path / "run", store=store, env={"PYTHONHASHSEED": "7"})
    assert resumed.status == 0, resumed.stderr.decode()
    lines = [line.split() for line in (stopped.stdout + resumed.stdout).decode().splitlines()]
    assert [int(number) for _, number, _ in lines] == list(range(60))
    assert len({word for _, _, word in lines}) == 1

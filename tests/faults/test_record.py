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


def test_sets_of_strings_keep_their_order_whatever_the_record_says(tmp_path: Path) -> None:
    script, store = tmp_path / "train.py", tmp_path / "store"
    script.write_text(PROGRAM)
    stop = Action(Line("^step 10 "), to="ckptd")
    stopped = run_ckptd([script], tmp_path / "run", store=store, actions=[stop])
    assert stopped.status == 75, stopped.stderr.decode()
    (record,) = store.glob("jobs/*/job.json")
    fields = json.loads(record.read_text())
    record.write_text(json.dumps({**fields, "hashseed": str(int(fields["hashseed"]) ^ 1)}))
    # Another seed in the environment is the same mistake, by hand.
    resumed = run_ckptd([script], tmp_path / "run", store=store, env={"PYTHONHASHSEED": "7"})
    assert resumed.status == 0, resumed.stderr.decode()
    lines = [line.split() for line in (stopped.stdout + resumed.stdout).decode().splitlines()]
    assert [int(number) for _, number, _ in lines] == list(range(60))
    assert len({word for _, _, word in lines}) == 1

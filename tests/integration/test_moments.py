"""A notice at an awkward moment: in each of them something is saved, or the newest checkpoint is gone on from.

What is promised for each moment stands in docs/supported.md, under "When the notice comes".
"""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import pytest

from harness import Action, Line, Said, compare, run_ckptd, run_plain, unrepeated

HEAD = """\
import hashlib, sys, time
import torch
from torch import nn

torch.manual_seed(0)
"""
MODEL = """\
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))
opt = torch.optim.AdamW(model.parameters(), 0.01)
def step(i):
    loss = model(torch.randn(6, 4)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print("step", i, loss.item())
"""
TAIL = """\
print([p.sum().item() for p in model.parameters()], torch.rand(1).item())
"""
PREPARATION = """\
data = []
for i in range(60):
    data.append(torch.randn(4) * i)
    print("prepared", i)
    time.sleep(0.05)
for i in range(5):
    step(i)
print(sum(data))
"""
EVALUATION = """\
for epoch in range(2):
    for i in range(4):
        step(i)
    total = 0.0
    with torch.no_grad():
        for i in range(60):
            total += model(torch.randn(6, 4)).sum().item()
            print("evaluated", i, total)
            time.sleep(0.05)
"""
COMPILING = """\
dropout = model[1]
model = torch.compile(model, backend="eager")
for i in range(40):
    if i == 2:
        dropout.p = 0.3
        print("compiled anew", i)
    step(i)
    time.sleep(0.02)
"""
GENERATING = """\
class Writer(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)
    def forward(self, x):
        return self.body(x)
    @torch.no_grad()
    def generate(self, x, n):
        for i in range(n):
            x = torch.cat([x, self(x[-1:]) + torch.randn(1, 3)])
            print("generated", len(x))
            time.sleep(0.05)
        return x
writer = Writer()
for i in range(6):
    step(i)
    print(writer.generate(torch.zeros(1, 3), 3 if i != 3 else 60).sum().item())
"""
LONG = """\
for i in range(8):
    step(i)
    time.sleep(0.2)
    if i == int(sys.argv[1]):
        print("long call")
        hashlib.pbkdf2_hmac("sha256", b"a", b"b", int(sys.argv[2]))
"""
REPLAYED = """\
time.sleep(2)
for i in range(100):
    step(i)
    time.sleep(0.02)
"""
SAVED = {
    "preparation": (PREPARATION, "^prepared 4$"),
    "evaluation": (EVALUATION, "^evaluated 3 "),
    "compiling": (COMPILING, "^compiled anew"),
    "generating": (GENERATING, "^generated 9$"),
}


@pytest.mark.parametrize("moment", SAVED)
def test_a_notice_is_answered_by_a_dump_well_within_the_grace(moment, tmp_path):
    text, line = SAVED[moment]
    program = write(tmp_path, text)
    plain = run_plain([program], tmp_path / "plain")
    under = run_ckptd(
        [program],
        tmp_path / "under",
        store=tmp_path / "store",
        actions=[Action(Line(line))],
        options=["--grace", "6s"],
    )
    assert compare(plain, under) == [], under.stderr.decode()
    assert len(under.processes) == 2, under.stderr.decode()
    assert b"SIGTERM: saved step " in under.stderr


def test_a_notice_while_the_program_is_brought_back_is_answered_when_it_is_there(tmp_path):
    program = write(tmp_path, REPLAYED)
    plain = run_plain([program], tmp_path / "plain")
    under = run_ckptd(
        [program],
        tmp_path / "under",
        store=tmp_path / "store",
        actions=[Action(Line("^step 8 ")), Action(Said("the agent in process", n=2))],
        options=["-v"],
    )
    assert compare(plain, under) == [], under.stderr.decode()
    assert len(under.processes) == 3, under.stderr.decode()
    first, second = map(int, re.findall(rb"SIGTERM: saved step (\d+) ", under.stderr))
    assert second - first < 20, under.stderr.decode()


def test_a_call_beyond_the_deadline_costs_only_what_came_behind_the_newest_checkpoint(tmp_path):
    program = write(tmp_path, LONG)
    command: list[str | Path] = [program, "5", str(iterations(seconds=3))]
    plain = run_plain(command, tmp_path / "plain")
    store = tmp_path / "store"
    under = run_ckptd(
        command,
        tmp_path / "under",
        store=store,
        actions=[Action(Line("^long call"))],
        options=["--grace", "1s", "--every", "2steps"],
    )
    once = unrepeated(plain.stdout, under.stdout, 1)
    assert compare(plain, under.saying(once)) == [], under.stderr.decode()
    assert under.stdout.count(b"step 1 ") == 1, under.stdout.decode()  # not begun anew
    assert b"did not leave in time and was killed: relaunching from step " in under.stderr


def test_a_call_beyond_the_deadline_before_any_checkpoint_begins_anew(tmp_path):
    program = write(tmp_path, LONG)
    command: list[str | Path] = [program, "0", str(iterations(seconds=3))]
    plain = run_plain(command, tmp_path / "plain")
    under = run_ckptd(
        command,
        tmp_path / "under",
        store=tmp_path / "store",
        actions=[Action(Line("^long call"))],
        options=["--grace", "1s"],
    )
    once = unrepeated(plain.stdout, under.stdout, 1)
    assert compare(plain, under.saying(once)) == [], under.stderr.decode()
    assert under.stdout.count(b"step 0 ") == 2


def write(folder: Path, text: str) -> Path:
    """The program in a file."""
    path = folder / "program.py"
    path.write_text(HEAD + MODEL + text + TAIL)
    return path


def iterations(seconds: float) -> int:
    """How many rounds of the hash take about so long here."""
    rounds = 200_000
    began = time.perf_counter()
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", rounds)
    return int(rounds * seconds / (time.perf_counter() - began))

"""Trains with steps of several lengths and prints what they took. Knows nothing of ckptd.

    python steps.py UNITS:COUNT ...

Each pair is a loop of COUNT steps; a step trains a small model and multiplies UNITS small matrices beside it.
Prints ``first`` with the time of day at the end of the first step, and for each pair the seconds of
every step by the clock on one line, and its seconds of CPU (of all threads) on the next.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise

import torch

torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Linear(16, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
matrix = torch.randn(48, 48) / 48
started = False


def train(data: list[torch.Tensor], units: int) -> tuple[list[float], list[float]]:
    global started
    clock, cpu = [time.perf_counter()], [time.process_time()]
    for batch in data:
        load = matrix
        for _ in range(units):
            load = load @ matrix
        loss = model(batch).pow(2).mean() + load[0, 0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock.append(time.perf_counter())
        cpu.append(time.process_time())
        if not started:
            started = True
            print("first", time.time(), flush=True)
    return between(clock), between(cpu)


def between(marks: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(marks)]


for word in sys.argv[1:]:
    units, count = map(int, word.split(":"))
    for times in train([torch.randn(8, 16) for _ in range(count)], units):
        print(*times)

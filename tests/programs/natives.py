"""State that no attribute shows: shared and ctypes memory, thread-local and context variables, weak dicts, csv, groupby."""

import contextvars
import csv
import ctypes
import io
import itertools
import multiprocessing as mp
import operator
import re
import threading
import weakref
from contextlib import ExitStack

import torch
from sums import digest

torch.manual_seed(0)


class Key:
    pass


net = torch.nn.Linear(3, 1)
opt = torch.optim.Adam(net.parameters(), 0.01)
counter = mp.Value("i", 0)
losses = mp.Array("d", 20)
buffer = (ctypes.c_int * 20)()
total = ctypes.c_double(0)
local = threading.local()
local.best = float("inf")
tokens = threading.Semaphore(40)
phase = contextvars.ContextVar("phase", default="warm-up")
keys = [Key() for _ in range(20)]
notes = weakref.WeakKeyDictionary()
living = weakref.WeakValueDictionary()
rows = csv.reader(io.StringIO("\n".join(f'"{k},{k}",{k * k}' for k in range(40))))
groups = itertools.groupby(itertools.count(), key=lambda k: k // 3)
by_name = {}
items = by_name.items()
found = get = None
stack = ExitStack()
for step in range(20):
    loss = net(torch.randn(5, 3)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    counter.value += 1
    losses[step] = loss.item()
    buffer[step] = step * 7
    total.value += loss.item()
    local.best = min(local.best, loss.item())
    tokens.acquire(blocking=False)
    if step == 5:
        phase.set("training")
    notes[keys[step]] = loss.item()
    living[step] = keys[step % 7]
    text, square = next(rows)
    number, members = next(groups)
    by_name[text] = int(square)
    found = re.search(r"(\d)\.(\d\d)", f"{loss.item():.4f}")
    get = operator.itemgetter(step % 3)
    print(step, loss.item(), counter.value, losses[step], sum(buffer), total.value, local.best, tokens._value)
    print(phase.get(), len(notes), sum(notes.values()), sorted(living), text, rows.line_num, number)
    print(len(items), sum(value for _, value in items), found.groups(), get("abc"))
print("final", digest(net, opt), losses[:], list(buffer))

"""Closures with nonlocal, decorators, partials, enums, registries on classes, lru_cache, walrus, while/else, continue."""

import enum
import functools
import random
import time
from collections import Counter, OrderedDict, defaultdict
from typing import NamedTuple

import numpy as np
import torch
from sums import digest
from torch import nn


class Phase(enum.Enum):
    WARM = 1
    MAIN = 2


class Result(NamedTuple):
    loss: float
    phase: Phase
    extra: dict


class Registry:
    items = []
    calls = 0

    def __init_subclass__(cls, **kw):
        super().__init_subclass__(**kw)
        Registry.items.append(cls.__name__)


class Net(nn.Module, Registry):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({"a": nn.Linear(4, 8), "b": nn.Linear(8, 2)})
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.seen += 1
        Registry.calls += 1
        return self.layers["b"](torch.relu(self.layers["a"](x)))


def counted(fn):
    @functools.wraps(fn)
    def inner(*args, **kwargs):
        inner.calls += 1
        return fn(*args, **kwargs)

    inner.calls = 0
    return inner


def make_step(model, opt):
    n = 0
    ema = None
    seen = Counter()

    @counted
    def step(x, y, *, phase):
        nonlocal n, ema
        n += 1
        seen[phase.name] += 1
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        value = loss.item()
        ema = value if ema is None else 0.9 * ema + 0.1 * value
        return Result(value, phase, {"n": n, "ema": ema})

    return step, lambda: (n, ema, dict(seen))


@functools.lru_cache(maxsize=None)
def scale(epoch):
    return random.uniform(0.5, 1.5)


def main(seed=13, *, epochs=4):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    model = Net()
    opt = torch.optim.Adam(
        [{"params": model.layers["a"].parameters(), "lr": 0.01}, {"params": model.layers["b"].parameters()}],
        lr=0.02,
    )
    step, report = make_step(model, opt)
    results = defaultdict(lambda: defaultdict(list))
    recent = OrderedDict()
    for epoch in range(epochs):
        phase = Phase.WARM if epoch == 0 else Phase.MAIN
        stepper = functools.partial(step, phase=phase)
        left = 8
        while (left := left - 1) >= 0:
            if random.random() < 0.15:
                print("skip", epoch, left)
                continue
            x = torch.from_numpy(np.random.randn(5, 4).astype("f4")) * scale(epoch)
            y = torch.from_numpy(np.random.randint(0, 2, 5))
            result = stepper(x, y)
            results[phase][epoch].append(result)
            recent[left] = result.loss
            recent.move_to_end(left, last=bool(left % 2))
            time.sleep(0.003)
            print(epoch, left, result.phase, f"{result.loss:.6f}", result.extra["n"])
            if len(recent) > 20:
                break
        else:
            print("while ended", list(recent))
    print(report(), step.calls, Registry.items, Registry.calls, scale.cache_info())
    print(
        "final",
        digest(model, opt, [[list(v) for v in r.values()] for r in results.values()], list(recent.items())),
    )


if __name__ == "__main__":
    main()

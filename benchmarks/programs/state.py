"""Trains with a state of given size, and prints for each step its number and the time. Knows nothing of ckptd.

    python state.py --size BYTES --tensors N [--changed 0.5] [--threads N] [--load torch FILE]

The state is random numbers in N parameters of one size; only a small head has gradients, so that a step is short
whatever the size. Steps change the parameters in turn, a few million bytes each, or those of a share of them,
or (0) none. The time is ``time.monotonic()`` at the step's end.
"""

from __future__ import annotations

import argparse
import time

import torch

CHANGED_BYTES = 8 << 20
"""Changed by one step."""
WORK = 512
"""Rows of the matrices that a step multiplies: some milliseconds."""


def make(size: int, tensors: int) -> list[torch.Tensor]:
    """Random tensors of float32, with ``size`` bytes together but for a rest that doesn't divide."""
    torch.manual_seed(0)
    return [torch.empty(max(1, size // 4 // tensors)).uniform_(-1, 1) for _ in range(tensors)]


class Model(torch.nn.Module):
    """Many weights, and a head that is trained."""

    def __init__(self, size: int, tensors: int) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(torch.nn.Parameter(each) for each in make(size, tensors))
        self.head = torch.nn.Linear(64, 1)


def load(model: Model, kind: str, path: str) -> None:
    """As programs do that were written for it."""
    names = {f"t{n}": each for n, each in enumerate(model.weights)}
    if kind == "torch":
        found = torch.load(path)
    elif kind == "safetensors":
        from safetensors.torch import load_file

        found = load_file(path)
    else:
        from torch.distributed import checkpoint

        found = {name: each.detach() for name, each in names.items()}
        checkpoint.load(found, checkpoint_id=path, no_dist=True)
        return
    with torch.no_grad():
        for name, each in names.items():
            each.copy_(found[name])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--tensors", type=int, required=True)
    parser.add_argument("--changed", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--load", nargs=2)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model = Model(options.size, options.tensors)
    if options.load:
        load(model, *options.load)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    batch, work = torch.randn(32, 64), torch.randn(WORK, WORK) / WORK
    changing = round(options.changed * options.tensors)
    at_once = min(changing, max(1, CHANGED_BYTES // model.weights[0].nbytes))
    place = 0
    for step in range(1_000_000_000):
        loss = model.head(batch).pow(2).mean() + (work @ work)[0, 0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for n in range(place, place + at_once):
                model.weights[n % changing].add_(1e-3)
        place += at_once
        print(step, time.monotonic(), flush=True)


if __name__ == "__main__":
    main()

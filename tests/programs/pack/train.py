"""python -m pack.train: relative imports, state in other modules, curriculum by a while loop inside try/finally."""

import hashlib
import time

import torch
from torch import nn

from .parts import META, build, bump, state


def loss_of(model, x):
    return nn.functional.mse_loss(model(x), x.prod(1, keepdim=True))


def main():
    torch.manual_seed(77)
    model = build(4, 2)
    opt = torch.optim.Adam(model.parameters(), lr=0.01)
    length, rounds = 4, 0
    try:
        while length < 12:
            for i in range(length):
                loss = loss_of(model, torch.randn(6, 4))
                opt.zero_grad()
                loss.backward()
                opt.step()
                running = bump(loss.item())
                time.sleep(0.003)
                print("round", rounds, i, f"{running:.6f}")
            rounds += 1
            length += 1 + META["steps"] % 2
    finally:
        print("steps", META["steps"], "rounds", rounds)
    total = hashlib.sha256()
    for p in model.parameters():
        total.update(p.detach().numpy().tobytes())
    print(state.total, META["order"][-1], type(model[0]).depth, torch.rand(1).item())
    print("final", total.hexdigest())


if __name__ == "__main__":
    main()

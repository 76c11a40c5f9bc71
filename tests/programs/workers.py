"""Persistent workers with an init function; the data is augmented with torch's, numpy's and python's generators."""

import random
import time

import numpy as np
import torch
from sums import digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset


def seed_worker(worker_id):
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)


class Augmented(Dataset):
    def __init__(self):
        self.x = torch.randn(48, 5)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        x = self.x[i] + torch.randn(5) * 0.1
        if random.random() < 0.5:
            x = -x
        return x * float(np.random.uniform(0.9, 1.1)), i % 3


def main():
    seed_everything(0)
    g = torch.Generator().manual_seed(0)
    loader = DataLoader(
        Augmented(),
        6,
        shuffle=True,
        num_workers=2,
        worker_init_fn=seed_worker,
        generator=g,
        persistent_workers=True,
    )
    model = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 4)
    for epoch in range(4):
        for i, (x, y) in enumerate(loader):
            loss = nn.functional.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            time.sleep(0.004)
            print(epoch, i, f"{loss.item():.6f} {x.sum().item():.6f}")
        sched.step()
    print("final", digest(model, opt, g.get_state()))


if __name__ == "__main__":
    main()

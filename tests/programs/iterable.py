"""An IterableDataset with a shuffle buffer in this process, and the same sharded over two workers."""

import random
import time

import torch
from sums import digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Lines(IterableDataset):
    def __init__(self, n, seed, buffer=8):
        self.n, self.buffer = n, buffer
        self.rng = random.Random(seed)

    def __iter__(self):
        info = get_worker_info()
        first, jump = (info.id, info.num_workers) if info else (0, 1)
        held = []
        for i in range(first, self.n, jump):
            item = torch.tensor([i / self.n, (i % 7) / 7, 1.0])
            if len(held) < self.buffer:
                held.append(item)
                continue
            place = self.rng.randrange(self.buffer)
            out, held[place] = held[place], item
            yield out, out[:1] * 2
        self.rng.shuffle(held)
        for item in held:
            yield item, item[:1] * 2


def train(name, model, opt, loader, epochs):
    for epoch in range(epochs):
        for i, (x, y) in enumerate(loader):
            loss = nn.functional.mse_loss(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            time.sleep(0.004)
            print(name, epoch, i, f"{loss.item():.6f}")


if __name__ == "__main__":
    seed_everything(1)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    opt = torch.optim.Adam(model.parameters(), lr=0.01)
    train("here", model, opt, DataLoader(Lines(40, 5), batch_size=5), 3)
    train("workers", model, opt, DataLoader(Lines(40, 6), batch_size=5, num_workers=2), 3)
    print("final", digest(model, opt))

"""DataLoader workers that have not begun when the program goes on: a slow worker_init_fn, iterators made ahead."""

import random
from threading import Event

import numpy as np
import torch
from sums import digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

seed_everything(5)


class Noisy(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.randn(4) + index + random.random() + np.random.rand()


def slow(worker):
    Event().wait(0.25)  # reads an index, say
    random.random()


net = nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.001)
loader = DataLoader(Noisy(), batch_size=3, shuffle=True, num_workers=2, worker_init_fn=slow)
for epoch in range(2):
    batches = iter(loader)
    for warm in range(3):
        print("warm", epoch, warm, torch.rand(1).item())
    for step, x in enumerate(batches):
        opt.zero_grad()
        loss = net(x).pow(2).mean()
        loss.backward()
        opt.step()
        print(epoch, step, loss.item())
print("final", digest(net, opt))

"""A pool of processes that prepares data, held over the steps: it waits for work whenever the program is stopped."""

import multiprocessing
import torch
from sums import digest


def prepare(seed):
    return [((seed * 7919 + i * 104729) % 1000) / 1000 for i in range(4)]


torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
with multiprocessing.get_context("fork").Pool(2) as pool:
    for step in range(6):
        x = torch.tensor(pool.map(prepare, range(step, step + 4)))
        loss = net(x).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(step, loss.item())
del pool
print("final", digest(net, opt))

"""Environments that step in a pool of threads while the policy waits."""

import concurrent.futures
import random
import torch
from sums import digest


waits = []


def rollout(seed):
    rng = random.Random(seed)
    while waits:
        waits.pop()
    return [rng.gauss(0, 1) for _ in range(4)]


torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
with concurrent.futures.ThreadPoolExecutor(2) as executor:
    ahead = executor.submit(rollout, 0)
    for step in range(6):
        x = torch.tensor(ahead.result())
        ahead = executor.submit(rollout, step + 1)
        loss = net(x).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print(step, loss.item())
del executor, ahead
print("final", digest(net, opt))

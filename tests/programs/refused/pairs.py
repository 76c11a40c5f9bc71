"""Neighbours are looked at in pairs, by an iterator that tells nothing of itself.

Refused: how far an iterator of type pairwise has come can't be read
"""

import itertools
import torch

torch.manual_seed(0)
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
for first, second in itertools.pairwise(range(8)):
    loss = (w - torch.rand(4) * first - second).pow(2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(first, second, loss.item())

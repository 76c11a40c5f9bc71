"""A loop over an iterator of numpy's own, written in C.

Refused: how far an iterator of type numpy.nditer has come can't be read: make a list of it first
"""

import numpy as np

import torch

torch.manual_seed(0)
w = torch.zeros(3, requires_grad=True)
opt = torch.optim.SGD([w], 0.1)
for step in np.nditer(np.arange(8)):
    loss = ((w - torch.randn(3)) ** 2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(int(step), loss.item())

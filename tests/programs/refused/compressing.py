"""A stream that is compressed as training goes on.

Refused: the state of an object of type zlib.Compress can't be read; if it is always as the program makes it, say so with --remade zlib.Compress
"""

import zlib

import torch

torch.manual_seed(0)
w = torch.zeros(3, requires_grad=True)
opt = torch.optim.SGD([w], 0.1)
packer = zlib.compressobj()
size = 0
for step in range(8):
    loss = ((w - torch.randn(3)) ** 2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    size += len(packer.compress(str(loss.item()).encode()))
    print(step, size)

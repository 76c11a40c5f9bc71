"""A log is written through a descriptor.

Refused: the file
"""

import os
import torch

torch.manual_seed(0)
log = os.open("log.txt", os.O_WRONLY | os.O_CREAT, 0o600)
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
for step in range(8):
    loss = (w - torch.rand(4)).pow(2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    os.write(log, b"%d\n" % step)
    print(step, loss.item())
os.close(log)

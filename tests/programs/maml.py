"""MAML: graphs that live over several iterations of the inner loops."""

import time
import torch
from torch import nn

torch.manual_seed(0)
meta = nn.Linear(2, 1)
opt = torch.optim.Adam(meta.parameters(), lr=0.01)
for it in range(6):
    opt.zero_grad()
    meta_loss = 0.0
    for task in range(4):
        x = torch.randn(5, 2)
        y = x.sum(1, keepdim=True) * (task + 1)
        fast = list(meta.parameters())
        for k in range(3):
            loss = ((x @ fast[0].t() + fast[1] - y) ** 2).mean()
            grads = torch.autograd.grad(loss, fast, create_graph=True)
            fast = [p - 0.1 * g for p, g in zip(fast, grads)]
            time.sleep(0.004)
            print("inner", it, task, k, loss.item())
        meta_loss = meta_loss + ((x @ fast[0].t() + fast[1] - y) ** 2).mean()
    meta_loss.backward()
    opt.step()
    print("outer", it, meta_loss.item())

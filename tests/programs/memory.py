"""NumPy views, and tensors on the memory of arrays, made while training."""

import time
import torch
import numpy as np

torch.manual_seed(0)
np.random.seed(0)
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
buf = np.zeros((6, 4), dtype=np.float32)
rows, tensors, pairs = [], [], []
for i in range(20):
    k = i % 6
    buf[k] = np.random.randn(4)
    if i < 6:
        rows.append(buf[k])
        tensors.append(torch.from_numpy(buf[k : k + 1]))
    own = np.arange(4.0)
    pair = (own, own[1:])
    pairs = [*pairs, pair]
    loss = (
        ((w - torch.from_numpy(rows[i // 2 % len(rows)])) ** 2).sum()
        + tensors[0].sum()
        + float(np.sum([p[1].sum() for p in pairs]))
    )
    for p in pairs:
        p[0][:] += 1
    opt.zero_grad()
    loss.backward()
    opt.step()
    time.sleep(0.005)
    print(i, loss.item())

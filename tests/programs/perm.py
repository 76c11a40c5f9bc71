"""A generator with a permutation inside feeds the loop; weights are updated by hand, there is no optimizer."""

import time

import numpy as np
import torch
from sums import digest, seed_everything


def batches(x, y, size, shuffle=True):
    order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
    for start in range(0, len(x), size):
        index = order[start : start + size]
        noise = np.random.normal(scale=0.01, size=(len(index), x.shape[1])).astype(np.float32)
        yield x[index] + torch.from_numpy(noise), y[index]


def forward(x, params):
    w1, b1, w2, b2 = params
    return torch.tanh(x @ w1 + b1) @ w2 + b2


seed_everything(4)
x = torch.randn(60, 3)
y = (x.prod(1, keepdim=True) > 0).float()
params = [torch.randn(3, 8) * 0.5, torch.zeros(8), torch.randn(8, 1) * 0.5, torch.zeros(1)]
velocity = [torch.zeros_like(p) for p in params]
for p in params:
    p.requires_grad_()
lr = 0.1
for epoch in range(5):
    for i, (xb, yb) in enumerate(batches(x, y, 10)):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(forward(xb, params), yb)
        loss.backward()
        with torch.no_grad():
            for p, v in zip(params, velocity):
                v.mul_(0.9).add_(p.grad)
                p -= lr * v
                p.grad = None
        time.sleep(0.003)
        print(epoch, i, f"{loss.item():.6f}")
    lr *= 0.8
    accuracy = np.mean(
        [((forward(a, params) > 0).float() == b).float().mean().item() for a, b in batches(x, y, 20, False)]
    )
    print("accuracy", accuracy)
print("final", digest(params, velocity, lr))

"""``while True`` over next(iterator) with StopIteration, a WeightedRandomSampler, warm-up by LambdaLR."""

import time

import torch
from sums import digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

MAX_STEPS = 26
seed_everything(9)
x = torch.randn(70, 6)
labels = (x[:, 0] > 0.8).long()
weights = torch.where(labels == 1, 4.0, 1.0)
sampler = WeightedRandomSampler(weights, num_samples=48, replacement=True)
loader = DataLoader(TensorDataset(x, labels), batch_size=8, sampler=sampler, drop_last=True)
model = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 2))
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1.0, (s + 1) / 10))
it = iter(loader)
step = epochs = 0
counts = {}
while True:
    try:
        xb, yb = next(it)
    except StopIteration:
        epochs += 1
        it = iter(loader)
        xb, yb = next(it)
        print("again", epochs)
    loss = nn.functional.cross_entropy(model(xb), yb)
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    counts[epochs] = counts.get(epochs, 0) + int(yb.sum())
    step += 1
    time.sleep(0.003)
    print(f"step {step} lr {sched.get_last_lr()[0]:.6f} loss {loss.item():.6f}")
    if step >= MAX_STEPS:
        break
print(counts)
print("final", digest(model, opt, sched.state_dict(), epochs))

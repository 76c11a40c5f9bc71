"""WGAN-GP: n_critic inner loop, a gradient penalty by autograd.grad, cyclic data, dict of optimizers, an own SIGTERM handler."""

import signal
import sys
import time
from itertools import cycle

import torch
from sums import digest, seed_everything
from torch import autograd, nn
from torch.utils.data import DataLoader, TensorDataset


def on_term(signum, frame):
    print("asked to stop", file=sys.stderr)
    sys.exit(1)


signal.signal(signal.SIGTERM, on_term)
seed_everything(41)
real = torch.randn(80, 2) * 0.2 + 1
G, D = (
    nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 2)),
    nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 1)),
)
opts = {
    "G": torch.optim.Adam(G.parameters(), 1e-3, (0.5, 0.9)),
    "D": torch.optim.Adam(D.parameters(), 1e-3, (0.5, 0.9)),
}
data = cycle(DataLoader(TensorDataset(real), batch_size=20, shuffle=True))


def penalty(a, b):
    t = torch.rand(len(a), 1)
    mix = (t * a + (1 - t) * b).requires_grad_(True)
    (grads,) = autograd.grad(D(mix).sum(), mix, create_graph=True)
    return ((grads.norm(2, dim=1) - 1) ** 2).mean()


for iteration in range(18):
    for p in D.parameters():
        p.requires_grad = True
    for critic in range(3):
        (batch,) = next(data)
        with torch.no_grad():
            fake = G(torch.randn(len(batch), 3))
        cost = D(fake).mean() - D(batch).mean() + 10 * penalty(batch, fake)
        D.zero_grad()
        cost.backward()
        opts["D"].step()
        time.sleep(0.002)
    for p in D.parameters():
        p.requires_grad = False
    G.zero_grad()
    gain = -D(G(torch.randn(20, 3))).mean()
    gain.backward()
    opts["G"].step()
    print(iteration, f"{cost.item():.6f} {gain.item():.6f}")
print("final", digest(G, D, opts["G"], opts["D"]))

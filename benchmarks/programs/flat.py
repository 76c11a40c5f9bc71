"""Trains as examples/charlm.py does: flat, micro batches, an evaluation now and then. Knows nothing of ckptd.

    python flat.py --bytes N --turns N

In each turn of 20 steps there is an evaluation, a batch that is slow to come, and a step that is one long call.
A ballast makes the state as large as is asked for; each step changes a part of it.
"""

import argparse
import hashlib
import time

import torch
from torch import nn
from torch.nn.functional import mse_loss

parser = argparse.ArgumentParser()
parser.add_argument("--bytes", type=int, default=1 << 20)
parser.add_argument("--turns", type=int, default=3)
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
ballast = [torch.rand(max(1, args.bytes // 64)) for _ in range(16)]
data = torch.randn(4096)
model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 16))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)


def get_batch(slow=False):
    for _ in range(10 if slow else 0):
        time.sleep(0.03)
    ix = torch.randint(len(data) - 17, (8,))
    return torch.stack([data[i : i + 16] for i in ix]), torch.stack([data[i + 1 : i + 17] for i in ix])


@torch.no_grad()
def estimate_loss():
    model.eval()
    losses = torch.zeros(15)
    for k in range(15):
        x, y = get_batch()
        losses[k] = mse_loss(model(x), y).item()
        time.sleep(0.02)
    model.train()
    return losses.mean()


X, Y = get_batch()
iter_num = 0
while True:
    if iter_num % 20 == 15:
        print(f"evaluation {iter_num}", flush=True)
        print(f"step {iter_num}: loss {estimate_loss():.6f}", flush=True)
    for micro_step in range(2):
        loss = mse_loss(model(X), Y) / 2
        if iter_num % 20 == 2 and micro_step == 1:
            print(f"loading {iter_num}", flush=True)
        X, Y = get_batch(slow=iter_num % 20 == 2 and micro_step == 1)
        loss.backward()
    if iter_num % 20 == 5:
        print(f"long {iter_num}", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"a", b"b", 1_000_000)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    ballast[iter_num % 16].add_(1)
    time.sleep(0.01)
    print(f"training {iter_num} {loss.item():.8f}", flush=True)
    iter_num += 1
    if iter_num >= 20 * args.turns:
        break
print([round(each[:1000].double().sum().item(), 6) for each in ballast], torch.rand(1).item(), flush=True)

"""A script with checkpoints of its own: it looks for one at its start, clears its sample folder, saves each epoch."""

import os
import shutil
import time

import torch
from sums import digest, seed_everything
from torch import nn

CKPT = "checkpoint.pt"
seed_everything(8)
model = nn.Linear(4, 2)
opt = torch.optim.Adagrad(model.parameters(), lr=0.1)
start_epoch = 0
best = 1e9
if os.path.exists(CKPT):
    print("=> loading checkpoint")
    state = torch.load(CKPT)
    start_epoch = state["epoch"]
    best = state["best"]
    model.load_state_dict(state["model"])
    opt.load_state_dict(state["opt"])
else:
    print("=> starting fresh")
shutil.rmtree("samples", ignore_errors=True)
os.makedirs("samples")
x = torch.randn(64, 4)
y = torch.randint(0, 2, (64,))
for epoch in range(start_epoch, 4):
    for i in torch.randperm(64).split(8):
        loss = nn.functional.cross_entropy(model(x[i]), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
        time.sleep(0.003)
        print(f"{epoch} {loss.item():.6f}")
    with open(f"samples/{epoch}.txt", "w") as f:
        for row in model(x[:4]).softmax(1).tolist():
            print(*row, file=f)
            time.sleep(0.001)
    torch.save(
        {"epoch": epoch + 1, "best": best, "model": model.state_dict(), "opt": opt.state_dict()},
        CKPT + ".tmp",
    )
    os.replace(CKPT + ".tmp", CKPT)
    best = min(best, loss.item())
    print("saved", epoch, sorted(os.listdir("samples")))
print("final", digest(model, opt, best))

"""tqdm around loaders and ranges, tqdm.write, set_postfix; a csv in a with statement; a time-stamped folder."""

import csv
import time
from datetime import datetime
from pathlib import Path

import torch
from sums import digest, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm, trange

seed_everything(6)
out = Path("logs") / datetime.now().strftime("%Y%m%d-%H%M%S-%f")
out.mkdir(parents=True)
x = torch.randn(60, 3)
y = x.abs().sum(1, keepdim=True)
loader = DataLoader(TensorDataset(x, y), batch_size=6, shuffle=True)
model = nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.05, total_steps=40)
with open(out / "log.csv", "w", newline="") as f:
    writer = csv.writer(f)
    writer.writerow(["epoch", "batch", "loss"])
    for epoch in trange(4, desc="epochs"):
        bar = tqdm(enumerate(loader), total=len(loader), leave=False)
        for i, (xb, yb) in bar:
            loss = nn.functional.l1_loss(model(xb), yb)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()
            bar.set_postfix(loss=f"{loss.item():.4f}")
            writer.writerow([epoch, i, loss.item()])
            time.sleep(0.003)
            print("step", epoch, i, f"{loss.item():.6f}")
        total = 0.0
        for xb, yb in tqdm(loader, desc="eval"):
            with torch.no_grad():
                total += nn.functional.l1_loss(model(xb), yb).item()
            time.sleep(0.002)
        tqdm.write(f"epoch {epoch} {total:.6f}")
        f.flush()
(out / "done.txt").write_text(f"{total}\n")
torch.save({"model": model.state_dict()}, out / "model.pt")
print("final", digest(model, opt, sched.state_dict()))

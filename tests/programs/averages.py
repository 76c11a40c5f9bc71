"""SWA, weight_norm, spectral_norm, autocast, GradScaler, an optimizer rebuilt in mid-run, add_param_group, an unfreezing."""

import time

import torch
from sums import digest, seed_everything
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

seed_everything(31)
x = torch.randn(64, 6)
y = torch.randint(0, 3, (64,))
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
backbone = nn.Sequential(
    weight_norm(nn.Linear(6, 12)), nn.BatchNorm1d(12), nn.ReLU(), spectral_norm(nn.Linear(12, 8))
)
head = nn.Linear(8, 3)
model = nn.Sequential(backbone, head)
for p in backbone.parameters():
    p.requires_grad = False
optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu")
swa_model = AveragedModel(model)
swa_scheduler = None
for epoch in range(7):
    if epoch == 2:
        for p in backbone.parameters():
            p.requires_grad = True
        optimizer.add_param_group({"params": list(backbone.parameters()), "lr": 0.02})
        print("unfrozen")
    if epoch == 4:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
        swa_scheduler = SWALR(optimizer, swa_lr=0.002, anneal_epochs=2)
        print("rebuilt")
    for i, (xb, yb) in enumerate(loader):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(model(xb), yb)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        time.sleep(0.003)
        print(epoch, i, f"{loss.item():.6f} {norm.item():.6f} {scaler.get_scale()}")
    if swa_scheduler is not None:
        swa_model.update_parameters(model)
        swa_scheduler.step()
update_bn(loader, swa_model)
print("final", digest(model, swa_model, optimizer, scaler.state_dict()))

"""CUDA: tensors, generators of the device, autocast with GradScaler, a pinned loader, cudnn, a side stream."""

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import hashlib
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.use_deterministic_algorithms(True)
torch.backends.cudnn.benchmark = False
device = torch.device("cuda")
data = TensorDataset(torch.randn(256, 3, 16, 16), torch.randint(0, 10, (256,)))
loader = DataLoader(data, batch_size=32, shuffle=True, pin_memory=True, num_workers=2)
net = nn.Sequential(
    nn.Conv2d(3, 16, 3),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Flatten(),
    nn.Dropout(0.2),
    nn.Linear(16 * 14 * 14, 10),
).to(device)
opt = torch.optim.AdamW(net.parameters(), 1e-3)
scaler = torch.amp.GradScaler("cuda")
noise = torch.Generator(device=device).manual_seed(5)
side = torch.cuda.Stream()
for epoch in range(4):
    for step, (x, y) in enumerate(loader):
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        with torch.cuda.stream(side):
            jitter = torch.randn(x.shape, generator=noise, device=device) * 0.01
        torch.cuda.current_stream().wait_stream(side)
        with torch.autocast("cuda", dtype=torch.float16):
            loss = nn.functional.cross_entropy(net(x + jitter), y)
        opt.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
        print(
            "step",
            epoch,
            step,
            loss.item(),
            scaler.get_scale(),
            torch.rand(1, device=device).item(),
            flush=True,
        )
        time.sleep(0.02)
    net.eval()
    with torch.no_grad():
        right = sum((net(x.to(device)).argmax(1) == y.to(device)).sum().item() for x, y in loader)
    net.train()
    print("epoch", epoch, right)
digest = hashlib.sha256()
for tensor in [*net.state_dict().values(), torch.cuda.get_rng_state(), noise.get_state()]:
    digest.update(tensor.cpu().numpy().tobytes())
print("final", digest.hexdigest())

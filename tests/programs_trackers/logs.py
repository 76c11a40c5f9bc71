"""Two handlers of the logging module: one file begun anew, one appended to."""

import logging

import torch

torch.manual_seed(1)
log = logging.getLogger("train")
log.setLevel(logging.INFO)
log.addHandler(logging.FileHandler("train.log", mode="w"))
log.addHandler(logging.FileHandler("all.log"))
model = torch.nn.Linear(600, 400)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

for step in range(1, 61):
    loss = (model(torch.randn(96, 600)) - 1).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    log.info("step %d: loss %.6f", step, loss.item())
    print(f"step {step} {loss.item():.6f}")
print("end", model.weight.sum().item())

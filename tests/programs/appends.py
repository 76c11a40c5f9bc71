"""A log that is opened, appended to and closed at each step."""

import os
import time

import torch

torch.manual_seed(0)
if os.path.exists("log.csv"):
    os.remove("log.csv")
net = torch.nn.Linear(4, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for it in range(40):
    loss = net(torch.randn(8, 4)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    time.sleep(0.02)
    print(f"step {it} loss {loss.item():.9f}", flush=True)
    with open("log.csv", "a") as log:
        log.write(f"{it},{loss.item()}\n")
print("digest", net.weight.sum().item(), net.bias.sum().item(), torch.rand(1).item())

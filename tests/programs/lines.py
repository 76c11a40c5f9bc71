"""A file is read line by line while it trains."""

import time
import torch

with open("data.txt", "w") as f:
    for i in range(25):
        f.write(f"{i * 0.1}\n")
w = torch.zeros(1, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
for line in open("data.txt"):
    loss = ((w - float(line)) ** 2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    time.sleep(0.005)
    print(line.strip(), loss.item())

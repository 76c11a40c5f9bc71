"""Evaluation without no_grad, its last output kept in a variable while training goes on; losses summed with graphs."""

import time

import torch
from sums import digest

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
opt = torch.optim.Adam(net.parameters(), 0.01)
for epoch in range(3):
    total = 0
    for step in range(12):
        output = net(torch.randn(5, 3))
        loss = output.pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss
        time.sleep(0.002)
        print(epoch, step, loss.item())
    outputs = []
    for _ in range(3):
        predicted = net(torch.randn(5, 3))
        outputs.append(predicted)
        print(epoch, predicted.sum().item())
    print(epoch, total.item(), torch.cat(outputs).mean().item())
print("final", digest(net, opt))

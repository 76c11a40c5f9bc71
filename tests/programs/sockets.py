"""Rewards come over a pair of sockets, which are empty whenever the program is stopped."""

import socket
import torch
from sums import digest

torch.manual_seed(0)
here, there = socket.socketpair()
w = torch.zeros(1, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
for step in range(6):
    there.sendall(f"{step % 3}\n".encode())
    reward = float(here.recv(16))
    loss = (w - reward).pow(2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
here.close()
there.close()
print("final", digest(w, opt))

"""Letters that lie in a socket, sent and not yet read, whenever the program could be stopped.

Refused: bytes that have not been read, and they can't be carried over
"""

import socket

import torch

torch.manual_seed(0)
here, there = socket.socketpair()
w = torch.zeros(1, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
there.sendall(b"7")
for step in range(6):
    there.sendall(f"{step % 3}".encode())
    reward = float(here.recv(1))
    loss = (w - reward).pow(2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
here.recv(1)
here.close()
there.close()

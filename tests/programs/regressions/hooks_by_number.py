"""Hooks that are added as training goes on: each has a number, and its place in a dict by it."""

import torch

torch.manual_seed(0)
net = torch.nn.Linear(3, 2)
seen = []
handles = [net.register_forward_hook(lambda *_: seen.append("always"))]


def step(number):
    net(torch.randn(2, 3)).sum().backward()
    if number % 2 == 0:
        handles.append(net.register_forward_hook(lambda *_: seen.append(number)))
    if number == 4:
        handles.pop(1).remove()
    return len(seen)


for number in range(6):
    print(number, step(number), seen[-2:], len(net._forward_hooks))
names = [handle.id - handles[0].id for handle in handles]
print(names)

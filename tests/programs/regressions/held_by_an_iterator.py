import random
import torch

w = torch.ones(3, requires_grad=True)


def train(k=1):
    w.sum().backward()
    return 1


def tick(k=1):
    return random.randrange(9)


l2 = list(range(2))
it5 = iter(l2)
for i6 in range(1):
    for i8 in range(3):
        train(i6)
for j14 in l2[:3]:
    tick()
l2.append(tick())

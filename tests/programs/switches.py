"""Functions held in variables and changed in mid-run: builtin ones, numpy's, methods of types, lambdas in one line."""

import math
import operator
import random
import numpy as np
import torch
from torch import nn
from sums import digest

torch.manual_seed(0)
random.seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.act = torch.relu
        self.norms = {"in": np.tanh, "out": np.mean}

    def forward(self, x):
        return self.act(self.layer(torch.from_numpy(self.norms["in"](x)).float()))


def bound(x):
    return max(x, 0.0)


first = bound


def bound(x):
    return min(x, 1.0)


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
augment = [lambda x: x + 1, lambda x: x * 2, lambda x: x - 3]
add, mul = lambda a, b: a + b, lambda a, b: a * b
reduce, compare, root, change = torch.mean, torch.lt, math.sqrt, torch.Tensor.add_
clamp, words = bound, str.upper
for epoch in range(6):
    x = np.array([[0.5, -1.0 + epoch]])
    for each in augment:
        x = each(x)
    loss = reduce((net(x) - 1) ** 2)
    opt.zero_grad()
    loss.backward()
    opt.step()
    state = change(torch.full((2,), 3.0), 2.0)
    print(epoch, loss.item(), add(2, epoch), mul(2, epoch), compare(state, 4.0).tolist(), root(epoch + 1.0))
    print(words("Epoch"), clamp(epoch - 2.5), first(epoch - 2.5), float(net.norms["out"](x)), state.tolist())
    random.shuffle(augment)
    if epoch == 1:
        net.act, reduce, compare, root = torch.tanh, torch.sum, torch.gt, math.exp
    if epoch == 2:
        add, mul, change, words = mul, add, torch.Tensor.mul_, str.lower
        clamp, first = first, clamp
    if epoch == 3:
        net.norms["in"], net.norms["out"], root = np.sin, np.max, operator.neg
print("final", digest(net, opt))

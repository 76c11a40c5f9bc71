"""A set of objects that are told apart by address only, and iterated: the order of micrograd's children.

Refused: a set of the program can't be given back the order that it had
"""

import torch


class Value:
    def __init__(self, data):
        self.data = data


def total(values):
    result = 0.0
    for value in values:
        result = 0.9 * result + value.data
    return result


torch.manual_seed(0)
values = {Value(torch.rand(()).item()) for _ in range(6)}
scale = torch.ones((), requires_grad=True)
for step in range(5):
    loss = (scale - sum(each.data for each in values) / 6).pow(2)
    loss.backward()
    with torch.no_grad():
        scale -= 0.1 * scale.grad
        scale.grad = None
    print(step, loss.item() < 10)
del values

"""Functions with loops that a library calls by several ways: for a module's children first, for all leaves of a tree."""

import torch
from torch import nn
from torch.utils._pytree import tree_map


def reset_weights(module):
    for name, layer in module.named_children():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
        print("reset", name)


def halve(value):
    for _ in range(2):
        value = value / 2
        print("halved", float(value), torch.rand(1).item())
    return value


def main():
    torch.manual_seed(3)
    for turn in range(2):
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 1))
        model.apply(reset_weights)
        halved = tree_map(halve, {"a": 1.0, "b": (2.0, 3.0)})
        print(turn, halved, sum(p.sum().item() for p in model.parameters()))


main()

"""Iterators whose __iter__ begins anew: it is called once, by the program, and not again by a resume."""

from itertools import chain, islice

import torch


class Batches:
    def __init__(self, n):
        self.n, self.calls = n, 0

    def __iter__(self):
        self.calls += 1
        self.order = torch.randperm(self.n).tolist()
        self.i = 0
        return self

    def __next__(self):
        if self.i >= self.n:
            raise StopIteration
        self.i += 1
        return self.order[self.i - 1]


def show(*what):
    print(*what, torch.rand(1).item())


def main():
    torch.manual_seed(1)
    batches = Batches(3)
    for x in batches:
        show("itself", x)
    for i, x in enumerate(batches, start=3):
        show("enumerate", i, x)
    for i, x in zip(range(3), batches):
        show("zip", i, x)
    for x in map(str, batches):
        show("map", x)
    for x in chain([9], islice(batches, 2)):
        show("chain", x)
    numbered = enumerate(batches)
    while (x := next(numbered, None)) is not None:
        show("next", x)
    print(batches.calls)


main()

"""The same function called from several places, some of which are left out on restored variables."""

import random

import torch

model = torch.nn.Linear(2, 1)
torch.manual_seed(3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def work(n, seen):
    if n in seen:
        return -1
    seen.add(n)
    for _ in range(2):
        if n % 2:
            optimizer.zero_grad()
            model(torch.randn(3, 2)).sum().backward()
            optimizer.step()
        random.random()
        print("work", n, sorted(seen), model.weight.sum().item())
    return n + random.randrange(3)


class Tracker:
    def update(self, n):
        for _ in range(2):
            work(n, set())


seen = set()
results = list(map(lambda n: work(n, set()), [0, 1, 2, 3]))
print(results)
tracker = Tracker()
for i in range(2):
    random.random()
    if not seen:
        work(i, seen)
    print(work(i + 5, seen), work(i + 10, seen))
    for k in [1, 2]:
        tracker.update(k)
print(sorted([3, 1, 2], key=lambda n: work(n, set())))

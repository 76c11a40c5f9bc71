"""What an iteration took away before the place of the checkpoint can't be taken a second time."""

import heapq
import queue
from collections import deque

import torch

torch.manual_seed(0)
w = torch.zeros(3, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
todo = deque([1, 2, 3])
stack = ["a", "b", "c"]
heap = [5, 1, 3]
waiting = queue.Queue()
for each in range(3):
    waiting.put(torch.randn(3))
named = {"x": 1, "y": 2, "z": 3}
stream = iter([torch.randn(3) for _ in range(3)])


def learn(batch, times):
    last = stack.pop()
    for _ in range(times):
        loss = ((w - batch) ** 2).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
    return last, loss.item()


while todo:
    first = todo.popleft()
    least = heapq.heappop(heap)
    batch = waiting.get() + next(stream)
    name, value = named.popitem()
    print(first, least, name, value)
    for k in range(2):
        w.data.add_(0.01 * k)
    del batch.grad
    print(first, *learn(batch, first))
    total = 0
    for k in range(2):
        total += k + waiting.qsize()
    print(total, w.tolist())

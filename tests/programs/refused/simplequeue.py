"""Episodes wait in a SimpleQueue, which nobody can look into.

Refused: the items of a queue.SimpleQueue can't be carried over (use queue.Queue or a deque)
"""

import queue
import torch

torch.manual_seed(0)
waiting = queue.SimpleQueue()
w = torch.zeros(3, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)


def fill(count):
    for _ in range(count):
        waiting.put(torch.randn(3))


for step in range(8):
    fill(2)
    loss = (w - waiting.get()).pow(2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, waiting.qsize(), loss.item())

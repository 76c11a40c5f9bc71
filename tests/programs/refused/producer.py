"""A thread of its own feeds the training through a queue.

Refused: the program's thread 'Thread-1 (produce)' runs at
"""

import threading
import queue
import time
import torch

torch.manual_seed(0)


def produce(q, seed):
    g = torch.Generator().manual_seed(seed)
    for _ in range(25):
        q.put(torch.randn(4, generator=g))


q = queue.Queue(maxsize=3)
t = threading.Thread(target=produce, args=(q, 5), daemon=True)
t.start()
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
for i in range(25):
    x = q.get()
    loss = ((w - x) ** 2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    time.sleep(0.005)
    print(i, loss.item())
all(iter(t.is_alive, False))  # so that it ends alike each time

"""A search whose frontier lies in queues."""

import time
import torch
import queue

torch.manual_seed(0)
q = queue.Queue()
pq = queue.PriorityQueue()
lq = queue.LifoQueue(maxsize=50)
q.put(torch.randn(4))
pq.put((3, "c"))
lq.put(0)
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
i = 0
while not q.empty() and i < 25:
    x = q.get()
    i += 1
    for k in range(2):
        q.put(x * 0.9 + k * 0.1 + torch.randn(4) * 0.1)
    pq.put((i % 7, str(i)))
    lq.put(i)
    loss = ((w - x) ** 2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    time.sleep(0.005)
    print(i, loss.item(), q.qsize(), pq.queue[0], lq.qsize(), lq.get() if i % 2 else None, pq.get())

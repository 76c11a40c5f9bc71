"""Threads that prepare the data are started one by one.

Refused: the program's thread 'loader-
"""

import threading
import torch

go = threading.Event()
parts = [None] * 6


def load(part):
    go.wait()
    parts[part] = torch.randn(4, generator=torch.Generator().manual_seed(part))


torch.manual_seed(0)
threads = [threading.Thread(target=load, args=(part,), name=f"loader-{part}") for part in range(6)]
for each in threads:
    each.start()
go.set()
(
    threads[0].join(),
    threads[1].join(),
    threads[2].join(),
    threads[3].join(),
    threads[4].join(),
    threads[5].join(),
)
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
for step in range(6):
    loss = ((w - parts[step]) ** 2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
for each in threads:
    print(each.name, each.is_alive())
print(parts, w)

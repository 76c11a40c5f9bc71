"""Threads that load and count beside the training and have come to their end, joined or not."""

import threading
import time
import torch
from sums import digest


class Loader(threading.Thread):
    def __init__(self, part):
        super().__init__(name=f"loader-{part}", daemon=True)
        self.part = part
        self.items = None

    def run(self):
        g = torch.Generator().manual_seed(self.part)
        time.sleep(0.02)
        self.items = [torch.randn(4, generator=g) for _ in range(3)]


def tick(seen, number):
    time.sleep(0.01)
    seen.append(number)


torch.manual_seed(0)
seen = []
first = threading.Thread(target=tick, args=(seen, -1))
first.start()
loaders = [Loader(part) for part in range(3)]
loaders[0].start()
loaders[1].start()
loaders[2].start()
all(iter(first.is_alive, False))  # no safe point lies in it
all(iter(loaders[0].is_alive, False))
loaders[1].join()
loaders[2].join()
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
spare = threading.Thread(target=tick, args=(seen, 99))
for step in range(8):
    ticker = threading.Thread(target=tick, args=(seen, step), name=None if step % 2 else f"ticker-{step}")
    ticker.start()
    ticker.join()
    part = loaders[step % 3]
    x = part.items[step % 3]
    x += 0.1
    loss = ((w - x) ** 2).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item(), seen, ticker.name, ticker.is_alive())
    if step == 5:
        spare.start()
        spare.join()
for each in loaders:
    each.join()
    print(each.name, each.part, each.is_alive(), digest(*each.items))
first.join()
print(sorted(seen), spare.is_alive(), spare.name, threading.Thread(target=tick).name, digest(w))

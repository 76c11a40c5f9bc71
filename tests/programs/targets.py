"""Loops over attributes and items, state on the class, a call in the middle of an expression."""

import time
import torch

torch.manual_seed(0)


class T:
    step = 0

    def __init__(self):
        self.w = torch.zeros(4, requires_grad=True)
        self.opt = torch.optim.SGD([self.w], lr=0.1)
        self.d = {}
        self.l = [0, 0]

    def run(self):
        for self.epoch in range(3):
            for self.d["i"], (self.l[0], *self.l[1:]) in enumerate([(1, 2), (3, 4), (5, 6), (7, 8)]):
                loss = ((self.w - torch.randn(4)) ** 2).sum() * self.l[0]
                self.opt.zero_grad()
                loss.backward()
                self.opt.step()
                T.step += 1
                time.sleep(0.004)
                print(self.epoch, self.d, self.l, T.step, loss.item())
            x = None
            while (v := self.check(x)) is not None:
                x = v
                print("check", x)
                time.sleep(0.003)
            self.total = getattr(self, "total", 0) + self.sub(2) * 2
            self.d[self.epoch] = [self.sub(1), self.sub(1)]

    def check(self, x):
        return None if x == 2 else (x or 0) + 1

    def sub(self, n):
        s = 0
        for j in range(n):
            loss = ((self.w + torch.rand(4)) ** 2).sum()
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()
            s += loss.item()
            time.sleep(0.004)
            print("sub", n, j, s)
        return s


t = T()
t.run()
print(t.total, t.d, t.w.tolist())

"""Training inside try, with a continue, a finally, and an exception that ends an epoch."""

import time
import torch

torch.manual_seed(0)
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)


class Stop(Exception):
    pass


def one(e):
    for i in range(6):
        try:
            loss = ((w - torch.randn(4)) ** 2).sum()
            if loss.item() > 9:
                raise ValueError("big")
            opt.zero_grad()
            loss.backward()
            opt.step()
        except ValueError as err:
            print("caught", err)
            continue
        finally:
            time.sleep(0.004)
        print(e, i, loss.item())
        if loss.item() < 2.0:
            raise Stop(loss.item())
    return loss.item()


for e in range(5):
    try:
        r = one(e)
    except Stop as s:
        print("stop", s.args)
        r = s.args[0]
    with torch.no_grad():
        for j in range(3):
            print("eval", e, j, (w * torch.randn(4)).sum().item())
            time.sleep(0.003)
print(r, w.tolist())

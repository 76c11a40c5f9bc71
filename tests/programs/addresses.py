"""Parameters told apart by id(): a head with its own rate, a table of momenta by id, built anew in the second phase."""

import torch
from torch import nn
from sums import digest

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
head = list(map(id, net[2].parameters()))
by_id = {id(p): name for name, p in net.named_parameters()}
velocity = {}
x, y = torch.randn(16, 4), torch.randint(2, (16,))
for phase in range(2):
    base = filter(lambda p: id(p) not in head, net.parameters())
    opt = torch.optim.SGD([{"params": base}, {"params": net[2].parameters(), "lr": 0.1}], lr=0.01)
    for step in range(4):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        for p in net.parameters():
            v = velocity.setdefault(id(p), torch.zeros_like(p))
            v.mul_(0.9).add_(p.grad)
            p.data.sub_(v, alpha=0.05)
        print(phase, step, loss.item(), len(velocity), [by_id[id(p)] for p in net.parameters()])
velocity = list(velocity.values())
n = len(head)
del head, by_id
print("final", digest(net, opt, velocity, n))

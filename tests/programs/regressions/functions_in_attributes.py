"""Modules and optimizers of the program's own with functions in attributes: torch gives both a __setstate__."""

import torch
import torch.nn.functional as F


class Net(torch.nn.Module):
    def __init__(self, act=F.relu):
        super().__init__()
        self.act = act
        self.inner = torch.nn.Linear(3, 4)
        self.norm = lambda x: x / (1 + x.abs().sum())
        self.calls = []

    def forward(self, x):
        self.calls.append(len(self.calls))
        return self.norm(self.act(self.inner(x)))


class Wrapped(torch.optim.Optimizer):
    def __init__(self, params, base, **kwargs):
        super().__init__(params, dict(rho=0.5, **kwargs))
        self.base = base(self.param_groups, **kwargs)
        self.param_groups = self.base.param_groups
        self.scale = lambda group: group["rho"]

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old"] = p.data.clone()
                p.mul_(nudge(self.scale(group)))
        self.base.step()


def nudge(rho):
    return 1 + rho / 100


torch.manual_seed(0)
net = Net()
optimizer = Wrapped(net.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
for step in range(4):
    loss = net(torch.randn(5, 3)).pow(2).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    print(step, loss.item(), optimizer.base.param_groups is optimizer.param_groups, len(net.calls))

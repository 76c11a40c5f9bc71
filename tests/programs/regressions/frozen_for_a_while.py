"""Parameters that stand without a gradient for a part of an update, in which the program can be stopped."""

import torch


def params(*nets):
    return [p for net in nets for p in net.parameters()]


torch.manual_seed(0)
actor, critic = torch.nn.Linear(2, 1), torch.nn.Linear(3, 1)
optimizers = [torch.optim.Adam(actor.parameters(), lr=0.01), torch.optim.Adam(critic.parameters(), lr=0.01)]


def update(x):
    loss = (critic(torch.cat([x, actor(x).detach()], dim=1)) - x.sum(1, keepdim=True)).pow(2).mean()
    optimizers[1].zero_grad()
    loss.backward()
    optimizers[1].step()
    for p in params(critic):
        p.requires_grad = False
    optimizers[0].zero_grad()
    value = -critic(torch.cat([x, actor(x)], dim=1)).mean()
    value.backward()
    optimizers[0].step()
    for p in params(critic):
        p.requires_grad = True
    return loss.item(), value.item()


for step in range(3):
    print(step, update(torch.randn(4, 2)))

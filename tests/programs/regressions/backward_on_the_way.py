"""A second stop in an evaluation behind a backward pass of the same iteration: the replay does that pass once more."""

import torch

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
opt = torch.optim.RMSprop(net.parameters(), 0.01)


def integrate(f, y, n):
    for i in range(n):
        y = y + f(y) / n
    return y


for it in range(4):
    opt.zero_grad()
    loss = integrate(net, torch.randn(3, 2), 2).pow(2).mean()
    loss.backward()
    opt.step()
    with torch.no_grad():
        print(it, loss.item(), integrate(net, torch.ones(1, 2), 4).tolist())

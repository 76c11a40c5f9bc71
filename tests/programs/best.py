"""Flat: figures gathered in a long loop are read before the next loop."""

import copy
import torch
from sums import digest

torch.manual_seed(0)
net = torch.nn.Linear(12, 8)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
losses = []
history = {"loss": [], "norm": []}
best_state, best = None, float("inf")
for step in range(80):
    loss = net(torch.randn(4, 12)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    losses.append(loss.item())
    history["loss"].append(loss.item())
    if losses[-1] < best:
        best = losses[-1]
        best_state = copy.deepcopy(net.state_dict())
net.load_state_dict(best_state)
print("last", losses[-1], history["loss"][-1], min(losses))
total = 0.0
for batch in torch.randn(6, 4, 12):
    with torch.no_grad():
        total += net(batch).sum().item()
    print(total)
print("final", digest(net, losses))

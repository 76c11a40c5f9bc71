"""A graph waits at every head, always a new one, and nothing goes through it: retain_graph, rollouts without no_grad."""

import torch
from torch import nn


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.scales = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))

    def log_prob(self, x):
        total = x.new_zeros(x.shape[0])
        for i in reversed(range(len(self.scales))):
            s = torch.tanh(self.scales[i](x))
            x, total = x * s.exp(), total + s.sum(1)
        return total - (x**2).sum(1) / 2


torch.manual_seed(0)
flow, policy = Flow(), nn.Linear(2, 2)
optimizer = torch.optim.Adam([*flow.parameters(), *policy.parameters()], lr=0.01)
for step in range(6):
    loss = -flow.log_prob(torch.randn(4, 2)).mean()
    optimizer.zero_grad()
    loss.backward(retain_graph=True)
    optimizer.step()
    print("step", step, loss.item())
state = torch.zeros(2)
for update in range(3):
    states, actions = [], []
    for _ in range(3):
        prob = torch.softmax(policy(state), 0)
        action = torch.multinomial(prob, 1).item()
        states.append(state)
        actions.append(action)
        state = torch.randn(2) + action
    loss = nn.functional.cross_entropy(policy(torch.stack(states)), torch.tensor(actions))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("update", update, loss.item(), prob.tolist())

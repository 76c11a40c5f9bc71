"""LBFGS with a closure that counts in the function around it; no loop inside the step."""

import time

import torch
from sums import digest, seed_everything
from torch import nn


def fit(model, x, y, iterations):
    evaluations = 0
    losses = []
    optimizer = torch.optim.LBFGS(
        model.parameters(), lr=0.5, max_iter=4, history_size=5, line_search_fn="strong_wolfe"
    )
    for i in range(iterations):

        def closure():
            nonlocal evaluations
            evaluations += 1
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        losses.append(loss.item())
        time.sleep(0.003)
        print(i, evaluations, f"{loss.item():.9f}")
    return optimizer, losses, evaluations


seed_everything(2)
x = torch.linspace(-2, 2, 40).unsqueeze(1)
y = torch.sin(2 * x) + 0.1 * torch.randn(40, 1)
model = nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 1)).double()
x, y = x.double(), y.double()
optimizer, losses, evaluations = fit(model, x, y, 25)
print("final", digest(model, optimizer, losses, evaluations))

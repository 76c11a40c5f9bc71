"""Cross-validation in functions; a second phase whose width hangs on the first; recursion; a list of optimizers."""

import time

import torch
from sums import digest, seed_everything
from torch import nn


def build(width):
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))


def train_one(model, x, y, epochs, lr):
    optimizers = [
        torch.optim.SGD(model[0].parameters(), lr=lr),
        torch.optim.Adam(model[2].parameters(), lr=lr),
    ]
    for epoch in range(epochs):
        for xb, yb in zip(x.split(8), y.split(8)):
            loss = nn.functional.mse_loss(model(xb), yb)
            for o in optimizers:
                o.zero_grad()
            loss.backward()
            for o in optimizers:
                o.step()
            time.sleep(0.002)
        print("epoch", epoch, f"{loss.item():.6f}")
        if loss.item() < 0.05:
            return loss.item()
    return loss.item()


def evaluate(model, x, y):
    with torch.no_grad():
        return nn.functional.mse_loss(model(x), y).item()


def curriculum(model, x, y, level):
    """Trains on the first half until there is nothing left to halve, then on the way back up."""
    if level == 0:
        return 0.0
    half = len(x) // 2
    score = curriculum(model, x[:half], y[:half], level - 1)
    score += train_one(model, x, y, 2, 0.01)
    print("level", level, f"{score:.6f}")
    return score


def main():
    seed_everything(17)
    x = torch.randn(48, 3)
    y = torch.sin(x.sum(1, keepdim=True))
    scores = []
    for fold in range(3):
        index = torch.arange(48)
        held = index % 3 == fold
        model = build(4)
        loss = train_one(model, x[~held], y[~held], 3, 0.05)
        scores.append(evaluate(model, x[held], y[held]))
        print("fold", fold, f"{loss:.6f} {scores[-1]:.6f}")
    width = 4 + int(1000 * min(scores)) % 7
    total = 0.0
    final = build(width)
    for round_ in range(3):
        total += train_one(final, x, y, 2, 0.02) * evaluate(final, x, y)
        print("round", round_, width, f"{total:.6f}")
    total += curriculum(final, x, y, 3)
    print("final", digest(final, scores, total))


main()

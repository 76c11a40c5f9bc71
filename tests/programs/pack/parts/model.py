from torch import nn


class Block(nn.Module):
    depth = 0

    def __init__(self, n):
        super().__init__()
        type(self).depth += 1
        self.fc = nn.Linear(n, n)
        self.norm = nn.LayerNorm(n)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        return x + self.drop(self.norm(self.fc(x).relu()))


def build(n, depth):
    return nn.Sequential(*(Block(n) for _ in range(depth)), nn.Linear(n, 1))

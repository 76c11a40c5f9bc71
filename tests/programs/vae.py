"""A VAE in a flat script: a loader with its own generator, logging to a file and JSON lines, running loss with a graph."""

import json
import logging
import time

import numpy as np
import torch
from sums import digest, seed_everything
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

logging.basicConfig(
    filename="train.log", filemode="w", level=logging.INFO, format="%(levelname)s %(message)s"
)
log = logging.getLogger("vae")
console = logging.StreamHandler()
log.addHandler(console)
seed_everything(0)


class Blobs(Dataset):
    def __init__(self, n):
        self.x = np.random.rand(n, 12).astype("float32")

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return torch.from_numpy(self.x[i] + 0.01 * np.random.randn(12).astype("float32")).clamp(0, 1), i


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(12, 16)
        self.fc21 = nn.Linear(16, 3)
        self.fc22 = nn.Linear(16, 3)
        self.fc3 = nn.Linear(3, 16)
        self.fc4 = nn.Linear(16, 12)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


g = torch.Generator()
g.manual_seed(123)
train_loader = DataLoader(Blobs(72), batch_size=12, shuffle=True, generator=g)
test_loader = DataLoader(Blobs(36), batch_size=12)
model = VAE()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.9)
history = open("history.jsonl", "w")
for epoch in range(1, 5):
    model.train()
    train_loss = 0
    for batch_idx, (data, _) in enumerate(train_loader):
        optimizer.zero_grad()
        recon, mu, logvar = model(data)
        loss = F.binary_cross_entropy(recon, data, reduction="sum") - 0.5 * torch.sum(
            1 + logvar - mu.pow(2) - logvar.exp()
        )
        loss.backward()
        train_loss += loss
        optimizer.step()
        time.sleep(0.003)
        print(f"train {epoch} {batch_idx} {loss.item():.6f}")
        log.info("epoch %d batch %d loss %.6f", epoch, batch_idx, loss.item())
    model.eval()
    test_loss = 0
    with torch.no_grad():
        for i, (data, _) in enumerate(test_loader):
            recon, mu, logvar = model(data)
            test_loss += F.binary_cross_entropy(recon, data, reduction="sum").item()
            time.sleep(0.003)
            print("eval", epoch, i)
    history.write(json.dumps({"epoch": epoch, "train": float(train_loss), "test": test_loss}) + "\n")
    print(f"epoch {epoch} {train_loss / len(train_loader.dataset):.6f} {test_loss:.6f}")
with torch.no_grad():
    sample = model.fc4(F.relu(model.fc3(torch.randn(4, 3))))
history.close()
print("final", digest(model, optimizer, sample, g.get_state()))

"""A Trainer class with callbacks, early stopping by for/else, the best weights by deepcopy, and the next free run folder."""

import copy
import csv
import os
import time
from collections import defaultdict

import torch
from sums import digest, seed_everything
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset, random_split


def next_run_folder(root="runs"):
    n = 0
    while os.path.exists(os.path.join(root, f"exp{n}")):
        n += 1
    path = os.path.join(root, f"exp{n}")
    os.makedirs(path)
    return path


class EMA:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay
        for p in self.module.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for e, p in zip(self.module.state_dict().values(), model.state_dict().values()):
            e.copy_(e * self.decay + p * (1 - self.decay))


class CsvCallback:
    def __init__(self, folder):
        self.file = open(os.path.join(folder, "metrics.csv"), "w", newline="")
        self.writer = csv.DictWriter(self.file, fieldnames=["epoch", "train", "valid"])
        self.writer.writeheader()

    def __call__(self, trainer, row):
        self.writer.writerow(row)


class Trainer:
    def __init__(self, model, loaders, folder, patience=2):
        self.model = model
        self.loaders = loaders
        self.folder = folder
        self.patience = patience
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.05, weight_decay=1e-4)
        self.scheduler = ReduceLROnPlateau(self.optimizer, patience=0, factor=0.5)
        self.criterion = nn.MSELoss()
        self.history = defaultdict(list)
        self.best = None
        self.ema = EMA(model, 0.9)
        self.bad = 0
        self.callbacks = [CsvCallback(folder)]
        seen = []
        self.callbacks.append(lambda trainer, row: seen.append(row["valid"]))
        self.seen = seen
        self.handle = model[0].register_forward_hook(self._hook)
        self.activations = 0

    def _hook(self, module, args, output):
        self.activations += int((output > 0).sum())

    def run_epoch(self, split):
        training = split == "train"
        self.model.train(training)
        total = 0.0
        with torch.set_grad_enabled(training):
            for self.batch, (x, y) in enumerate(self.loaders[split]):
                loss = self.criterion(self.model(x), y)
                if training:
                    self.optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    self.optimizer.step()
                    self.ema.update(self.model)
                total += loss.item() * len(x)
                time.sleep(0.002)
                print(split, self.batch, f"{loss.item():.6f}")
        return total / len(self.loaders[split].dataset)

    def fit(self, epochs):
        for epoch in range(epochs):
            row = {"epoch": epoch, "train": self.run_epoch("train"), "valid": self.run_epoch("valid")}
            for callback in self.callbacks:
                callback(self, row)
            for key, value in row.items():
                self.history[key].append(value)
            self.scheduler.step(row["valid"])
            if self.best is None or row["valid"] < self.best[0]:
                self.best = (row["valid"], copy.deepcopy(self.model.state_dict()))
                torch.save(self.best[1], os.path.join(self.folder, "best.pt"))
                self.bad = 0
            else:
                self.bad += 1
                if self.bad > self.patience:
                    print("stopped early at", epoch)
                    break
            print("epoch", row)
        else:
            print("all epochs done")
        self.model.load_state_dict(self.best[1])


seed_everything(3)
x = torch.randn(120, 5)
y = x @ torch.randn(5, 1) + 0.5 * torch.randn(120, 1)
train, valid = random_split(TensorDataset(x, y), [90, 30])
loaders = {"train": DataLoader(train, 15, shuffle=True, drop_last=True), "valid": DataLoader(valid, 15)}
model = nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, 1))
folder = next_run_folder()
print("into", folder)
trainer = Trainer(model, loaders, folder)
trainer.fit(9)
trainer.callbacks[0].file.close()
print(trainer.seen, trainer.activations)
print(
    "final", digest(trainer.model, trainer.ema.module, trainer.optimizer, dict(trainer.history), trainer.bad)
)

"""Trains as examples/digits.py does: functions, DataLoaders with workers, a csv file. Knows nothing of ckptd.

    python epochs.py --bytes N --turns N

In each epoch there are batches that are slow to come, a step that is one long call, and a test at its end.
A ballast makes the state as large as is asked for; each step changes a part of it.
"""

import argparse
import csv
import hashlib
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy, max_pool2d, relu
from torch.utils.data import DataLoader, Dataset


class Pictures(Dataset):
    def __init__(self, count):
        self.images = torch.randn(count, 1, 8, 8)
        self.labels = torch.randint(10, (count,))

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        time.sleep(0.004)
        return self.images[i] + 0.1 * torch.randn(1, 8, 8), self.labels[i]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x):
        x = max_pool2d(relu(self.bn(self.conv(x))), 2)
        return self.fc(self.dropout(torch.flatten(x, 1)))


def train(model, loader, optimizer, scheduler, epoch, log, ballast):
    model.train()
    print(f"loading {epoch}", flush=True)
    for batch, (images, labels) in enumerate(loader):
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()
        if batch == 12:
            print(f"long {epoch}", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"a", b"b", 1_000_000)
        optimizer.step()
        scheduler.step()
        ballast[batch].add_(1)
        log.writerow([epoch, batch, f"{loss.item():.8f}", f"{scheduler.get_last_lr()[0]:.8f}"])
        print(f"training {epoch} {batch} {loss.item():.8f}", flush=True)


def test(model, loader, epoch):
    model.eval()
    loss = 0.0
    print(f"evaluation {epoch}", flush=True)
    with torch.no_grad():
        for images, labels in loader:
            loss += cross_entropy(model(images), labels, reduction="sum").item()
            time.sleep(0.01)
    return loss / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bytes", type=int, default=1 << 20)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    ballast = [torch.rand(max(1, args.bytes // 64)) for _ in range(16)]
    train_loader = DataLoader(Pictures(128), batch_size=8, shuffle=True, num_workers=2)
    test_loader = DataLoader(Pictures(64), batch_size=4, num_workers=1)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1e-2, total_steps=args.turns * len(train_loader)
    )
    with open("metrics.csv", "w", newline="") as file:
        log = csv.writer(file)
        for epoch in range(args.turns):
            train(model, train_loader, optimizer, scheduler, epoch, log, ballast)
            loss = test(model, test_loader, epoch)
            log.writerow([epoch, "test", f"{loss:.8f}"])
            print(f"epoch {epoch} done, test {loss:.8f}", flush=True)
    print([round(each[:1000].double().sum().item(), 6) for each in ballast], torch.rand(1).item(), flush=True)


if __name__ == "__main__":
    main()

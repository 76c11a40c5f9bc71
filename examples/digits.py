"""Trains a small convolutional network on handwritten digits.

The data are the UCI "Optical Recognition of Handwritten Digits", 1797 pictures of 8 by 8 pixels,
which scikit-learn ships, so nothing is downloaded.
"""

import argparse
import csv
import os

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.dropout = nn.Dropout(0.3)
        self.fc1 = nn.Linear(2 * width * 4 * 4, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.max_pool2d(x, 2)
        x = self.dropout(torch.flatten(x, 1))
        x = self.dropout(F.relu(self.fc1(x)))
        return self.fc2(x)


def train(args, model, loader, optimizer, scheduler, epoch, log):
    model.train()
    total = 0.0
    for batch, (images, labels) in enumerate(loader):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
        log.writerow([epoch, batch, f"{loss.item():.8f}", f"{scheduler.get_last_lr()[0]:.8f}"])
        if batch % args.log_interval == 0:
            done = 100.0 * batch / len(loader)
            print(f"epoch {epoch:2d} [{done:3.0f}%]  loss {loss.item():.6f}")
    return total / len(loader)


def test(model, loader):
    model.eval()
    loss = 0.0
    correct = 0
    with torch.no_grad():
        for images, labels in loader:
            output = model(images)
            loss += F.cross_entropy(output, labels, reduction="sum").item()
            correct += (output.argmax(dim=1) == labels).sum().item()
    return loss / len(loader.dataset), correct / len(loader.dataset)


def load(samples):
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
    labels = torch.tensor(digits.target, dtype=torch.int64)
    order = torch.randperm(len(labels))[:samples]
    images, labels = images[order], labels[order]
    split = len(labels) * 4 // 5
    return TensorDataset(images[:split], labels[:split]), TensorDataset(images[split:], labels[split:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--width", type=int, default=64, help="channels of the first convolution")
    parser.add_argument("--samples", type=int, default=1797, help="how many pictures to use")
    parser.add_argument("--log-interval", type=int, default=9, help="batches between two lines")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default="digits-out", help="folder for metrics.csv and model.pt")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    os.makedirs(args.out, exist_ok=True)

    train_set, test_set = load(args.samples)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=100)

    model = Net(args.width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    scheduler = OneCycleLR(optimizer, max_lr=args.lr, total_steps=args.epochs * len(train_loader))
    print(f"{len(train_set)} pictures to train on, {len(test_set)} to test on")

    with open(os.path.join(args.out, "metrics.csv"), "w", newline="") as file:
        log = csv.writer(file)
        log.writerow(["epoch", "batch", "loss", "lr"])
        for epoch in range(1, args.epochs + 1):
            train_loss = train(args, model, train_loader, optimizer, scheduler, epoch, log)
            test_loss, accuracy = test(model, test_loader)
            log.writerow([epoch, "test", f"{test_loss:.8f}", f"{accuracy:.4f}"])
            print(
                f"epoch {epoch:2d} done    train {train_loss:.6f}  test {test_loss:.6f}"
                f"  accuracy {100 * accuracy:.2f}%"
            )

    torch.save(model.state_dict(), os.path.join(args.out, "model.pt"))
    print(f"saved {os.path.join(args.out, 'model.pt')}")


if __name__ == "__main__":
    main()

"""Truncated backpropagation: hidden state carried and detached, gradient accumulation, a dataclass, a slotted meter."""

import time
from dataclasses import dataclass, field

import torch
from sums import digest, seed_everything
from torch import nn


@dataclass
class Config:
    epochs: int = 3
    bptt: int = 5
    accumulate: int = 2
    clip: float = 0.25
    sizes: list = field(default_factory=lambda: [8, 12])


@dataclass
class TrainState:
    step: int = 0
    best: float = float("inf")
    curve: list = field(default_factory=list)


class AverageMeter:
    __slots__ = ("name", "sum", "count", "_last")

    def __init__(self, name):
        self.name = name
        self.reset()

    def reset(self):
        self.sum = 0.0
        self.count = 0

    def update(self, value, n=1):
        self._last = value
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(1, self.count)


class RNNModel(nn.Module):
    def __init__(self, ntoken, config):
        super().__init__()
        emb, hid = config.sizes
        self.encoder = nn.Embedding(ntoken, hid)
        self.rnn = nn.LSTM(hid, hid, 2, dropout=0.2)
        self.decoder = nn.Linear(hid, ntoken)
        self.decoder.weight = self.encoder.weight
        self.hid = hid

    def forward(self, x, hidden):
        out, hidden = self.rnn(self.encoder(x), hidden)
        return self.decoder(out).view(-1, self.encoder.num_embeddings), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return weight.new_zeros(2, bsz, self.hid), weight.new_zeros(2, bsz, self.hid)


def repackage_hidden(h):
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)


def get_batch(source, i, bptt):
    n = min(bptt, len(source) - 1 - i)
    return source[i : i + n], source[i + 1 : i + 1 + n].view(-1)


def evaluate(model, source, config):
    model.eval()
    total = 0.0
    hidden = model.init_hidden(4)
    with torch.no_grad():
        for i in range(0, source.size(0) - 1, config.bptt):
            data, targets = get_batch(source, i, config.bptt)
            output, hidden = model(data, hidden)
            hidden = repackage_hidden(hidden)
            total += len(data) * nn.functional.cross_entropy(output, targets).item()
            time.sleep(0.002)
    return total / (len(source) - 1)


def train(model, source, optimizer, config, state):
    model.train()
    meter = AverageMeter("loss")
    hidden = model.init_hidden(4)
    for batch, i in enumerate(range(0, source.size(0) - 1, config.bptt)):
        data, targets = get_batch(source, i, config.bptt)
        hidden = repackage_hidden(hidden)
        output, hidden = model(data, hidden)
        loss = nn.functional.cross_entropy(output, targets)
        (loss / config.accumulate).backward()
        meter.update(loss.item(), len(data))
        if (batch + 1) % config.accumulate == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad()
            state.step += 1
        time.sleep(0.003)
        print(f"batch {batch} step {state.step} loss {loss.item():.6f}")
    state.curve.append(meter.avg)
    return meter


def main():
    config, state = Config(), TrainState()
    seed_everything(11)
    corpus = torch.randint(0, 20, (60, 4))
    valid = torch.randint(0, 20, (31, 4))
    model = RNNModel(20, config)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for epoch in range(config.epochs):
        meter = train(model, corpus, optimizer, config, state)
        val = evaluate(model, valid, config)
        if val < state.best:
            state.best = val
        else:
            for group in optimizer.param_groups:
                group["lr"] /= 4.0
        print(
            f"epoch {epoch} {meter.name} {meter.avg:.6f} valid {val:.6f} lr {optimizer.param_groups[0]['lr']}"
        )
    print(
        "final",
        digest(model, optimizer, state.curve, state.step, model.decoder.weight is model.encoder.weight),
    )


main()

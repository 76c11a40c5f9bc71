"""Loaders of all kinds: a batch sampler by length, weights, splits and concatenations, a collate class, an iterable dataset."""

import random
from collections import Counter
from itertools import islice

import numpy as np
import torch
from sums import digest, seed_everything
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)


class Sentences(Dataset):
    def __init__(self, seed, n):
        rng = np.random.RandomState(seed)
        self.items = [
            (rng.randint(1, 20, size=rng.randint(2, 9)).tolist(), int(rng.rand() > 0.7)) for _ in range(n)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        tokens, label = self.items[i]
        return torch.tensor([t if random.random() > 0.1 else 0 for t in tokens]), label


class BucketBatchSampler(Sampler):
    def __init__(self, lengths, batch_size, seed=0):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        g = torch.Generator()
        g.manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=g).tolist()
        order.sort(key=lambda i: self.lengths[i])
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        for i in torch.randperm(len(batches), generator=g).tolist():
            yield batches[i]

    def __len__(self):
        return (len(self.lengths) + self.batch_size - 1) // self.batch_size


class Collate:
    def __init__(self, pad):
        self.pad, self.seen = pad, 0

    def __call__(self, batch):
        batch.sort(key=lambda item: len(item[0]), reverse=True)
        xs, ys = zip(*batch)
        self.seen += len(xs)
        return (
            pad_sequence(xs, batch_first=True, padding_value=self.pad),
            torch.tensor(list(map(len, xs))),
            torch.tensor(ys),
        )


class Stream(IterableDataset):
    def __init__(self, seed):
        self.rng = random.Random(seed)

    def __iter__(self):
        while True:
            n = self.rng.randint(2, 6)
            yield torch.tensor([self.rng.randrange(20) for _ in range(n)]), int(self.rng.random() > 0.5)


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = torch.nn.EmbeddingBag(21, 4, mode="mean", padding_idx=0)
        self.seq = torch.nn.Embedding(21, 6, padding_idx=0)
        self.rnn = torch.nn.GRU(6, 5, batch_first=True, bidirectional=True)
        self.out = torch.nn.Linear(14, 2)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(self.seq(x), lengths, batch_first=True, enforce_sorted=True)
        out, h = self.rnn(packed)
        out, _ = pad_packed_sequence(out, batch_first=True)
        return self.out(torch.cat([out.mean(1), self.emb(x)], dim=1))


seed_everything(21)
both = ConcatDataset([Sentences(1, 30), Sentences(2, 18)])
train, val = random_split(both, [40, 8], generator=torch.Generator().manual_seed(42))
lengths = [len(both[i][0]) for i in train.indices]
labels = [both[i][1] for i in train.indices]
counts = Counter(labels)
collate = Collate(0)
sampler = BucketBatchSampler(lengths, 8, seed=3)
weights = [1.0 / counts[label] for label in labels]
loaders = {
    "bucket": DataLoader(train, batch_sampler=sampler, collate_fn=collate),
    "weighted": DataLoader(
        train, batch_size=8, sampler=WeightedRandomSampler(weights, 24, replacement=True), collate_fn=collate
    ),
    "subset": DataLoader(
        Subset(train, range(0, 40, 2)),
        batch_sampler=BatchSampler(
            RandomSampler(range(20), generator=torch.Generator().manual_seed(5)), 6, True
        ),
        collate_fn=collate,
    ),
    "stream": DataLoader(Stream(9), batch_size=6, collate_fn=collate),
}
val_loader = DataLoader(val, sampler=SequentialSampler(val), batch_size=4, collate_fn=lambda b: collate(b))
model = Tagger()
optimizer = torch.optim.NAdam(model.parameters(), lr=0.01)
history = {name: [] for name in loaders}
for epoch in range(2):
    sampler.set_epoch(epoch)
    for name, loader in loaders.items():
        model.train()
        for x, n, y in islice(loader, 4):
            loss = torch.nn.functional.cross_entropy(model(x, n), y)
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            optimizer.step()
            history[name].append(loss.item())
        model.eval()
        correct = total = 0
        with torch.no_grad():
            for x, n, y in val_loader:
                correct += (model(x, n).argmax(1) == y).sum().item()
                total += len(y)
        print(f"epoch {epoch} {name} loss {history[name][-1]:.6f} val {correct}/{total} seen {collate.seen}")
for number, (batch,) in enumerate(DataLoader(TensorDataset(torch.arange(10.0)), batch_size=3, shuffle=True)):
    print(number, batch.tolist(), abs(model.out.bias.sum().item()) < 10)
print("final", digest(model, optimizer, history))

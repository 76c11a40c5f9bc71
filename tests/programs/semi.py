"""Semi-supervised: zip(loader, cycle(loader2)) with 2 workers each time anew, islice, chain, an iterator made before."""

import itertools
import time

import torch
from sums import digest, seed_everything
from torch import nn
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, RandomSampler, Subset, TensorDataset

seed_everything(21)


def collate(rows):
    xs, ys = zip(*rows)
    return {"x": torch.stack(xs), "y": torch.stack(ys), "n": len(rows)}


def run():
    x = torch.randn(50, 4)
    y = (x.sum(1) > 0).long()
    labelled = Subset(TensorDataset(x, y), range(24))
    unlabelled = ConcatDataset(
        [Subset(TensorDataset(x, y), range(24, 40)), Subset(TensorDataset(x, y), range(40, 50))]
    )
    one = DataLoader(labelled, batch_size=4, shuffle=True, collate_fn=collate, num_workers=2)
    two = DataLoader(
        unlabelled, batch_sampler=BatchSampler(RandomSampler(unlabelled), 5, False), collate_fn=collate
    )
    endless = iter(itertools.cycle(DataLoader(labelled, batch_size=3, shuffle=True)))
    student, teacher = nn.Linear(4, 2), nn.Linear(4, 2)
    opt = torch.optim.NAdam(student.parameters(), lr=0.05)
    for epoch in range(3):
        tail = 0.0
        for step, (a, b) in enumerate(zip(one, itertools.cycle(two)), start=1):
            extra = next(endless)
            target = teacher(b["x"]).softmax(1).detach()
            loss = nn.functional.cross_entropy(student(a["x"]), a["y"])
            loss = (
                loss
                + nn.functional.cross_entropy(student(b["x"]), target)
                + nn.functional.cross_entropy(student(extra[0]), extra[1])
            )
            opt.zero_grad()
            loss.backward()
            opt.step()
            with torch.no_grad():
                for t, s in zip(teacher.parameters(), student.parameters()):
                    t.lerp_(s, 0.1)
            time.sleep(0.003)
            print(epoch, step, a["n"], b["n"], f"{loss.item():.6f}")
        for batch in itertools.islice(itertools.chain(two, one), 7):
            with torch.no_grad():
                tail += nn.functional.cross_entropy(student(batch["x"]), batch["y"]).item()
            time.sleep(0.002)
            print("tail", f"{tail:.6f}")
    print("final", digest(student, teacher, opt))


if __name__ == "__main__":
    run()

"""SimCLR and BYOL in one: two views by random augmentation in the dataset, an NT-Xent loss, a momentum target, a cosine tau."""

import argparse
import copy
import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from sums import digest, seed_everything
from torch import nn


class Compose:
    def __init__(self, *transforms):
        self.transforms = transforms

    def __call__(self, x):
        for t in self.transforms:
            x = t(x)
        return x


class RandomApply(nn.Module):
    def __init__(self, fn, p):
        super().__init__()
        self.fn, self.p = fn, p

    def forward(self, x):
        if random.random() > self.p:
            return x
        return self.fn(x)


class ContrastiveLearningViewGenerator(object):
    def __init__(self, base_transform, n_views=2):
        self.base_transform = base_transform
        self.n_views = n_views

    def __call__(self, x):
        return [self.base_transform(x) for i in range(self.n_views)]


class Points(torch.utils.data.Dataset):
    def __init__(self, n, transform):
        rng = np.random.RandomState(0)
        self.x, self.transform = rng.randn(n, 6).astype(np.float32), transform

    def __getitem__(self, i):
        return self.transform(torch.from_numpy(self.x[i])), i % 3

    def __len__(self):
        return len(self.x)


class BYOL(nn.Module):
    def __init__(self, net, dim):
        super().__init__()
        self.online = net
        self.predictor = nn.Sequential(
            nn.Linear(dim, dim), nn.BatchNorm1d(dim), nn.ReLU(), nn.Linear(dim, dim)
        )
        self.target_encoder = None

    def _get_target_encoder(self):
        if self.target_encoder is None:
            self.target_encoder = copy.deepcopy(self.online)
            for p in self.target_encoder.parameters():
                p.requires_grad = False
        return self.target_encoder

    @torch.no_grad()
    def update_moving_average(self, tau):
        for (n1, cur), (n2, ma) in zip(
            self.online.named_parameters(), self.target_encoder.named_parameters()
        ):
            assert n1 == n2
            ma.data = ma.data * tau + (1 - tau) * cur.data

    def forward(self, a, b):
        pred = [self.predictor(self.online(v)) for v in (a, b)]
        with torch.no_grad():
            target = [self._get_target_encoder()(v).detach_() for v in (b, a)]
        return sum((2 - 2 * F.cosine_similarity(p, t, dim=-1)).mean() for p, t in zip(pred, target))


class Meter:
    """Computes and stores the average and current value"""

    def __init__(self, name, fmt=":f"):
        self.name, self.fmt = name, fmt
        self.reset()

    def reset(self):
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count

    def __str__(self):
        return ("{name} {val" + self.fmt + "} ({avg" + self.fmt + "})").format(**self.__dict__)


class ProgressMeter(object):
    def __init__(self, num_batches, meters, prefix=""):
        num_digits = len(str(num_batches // 1))
        self.fmtstr = "[" + "{:" + str(num_digits) + "d}" + "/" + str(num_batches) + "]"
        self.meters, self.prefix = meters, prefix

    def display(self, batch):
        print("\t".join([self.prefix + self.fmtstr.format(batch)] + [str(meter) for meter in self.meters]))


def info_nce_loss(args, features):
    labels = torch.cat([torch.arange(args.batch_size) for i in range(args.n_views)], dim=0)
    labels = (labels.unsqueeze(0) == labels.unsqueeze(1)).float()
    features = F.normalize(features, dim=1)
    similarity = torch.matmul(features, features.T)
    mask = torch.eye(labels.shape[0], dtype=torch.bool)
    labels = labels[~mask].view(labels.shape[0], -1)
    similarity = similarity[~mask].view(similarity.shape[0], -1)
    positives = similarity[labels.bool()].view(labels.shape[0], -1)
    negatives = similarity[~labels.bool()].view(similarity.shape[0], -1)
    logits = torch.cat([positives, negatives], dim=1) / 0.5
    return logits, torch.zeros(logits.shape[0], dtype=torch.long)


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        maxk = max(topk)
        _, pred = output.topk(maxk, 1, True, True)
        correct = pred.t().eq(target.view(1, -1).expand_as(pred.t()))
        res = []
        for k in topk:
            correct_k = correct[:k].reshape(-1).float().sum(0, keepdim=True)
            res.append(correct_k.mul_(100.0 / target.size(0)))
        return res


def main():
    args = argparse.Namespace(batch_size=8, n_views=2, epochs=3)
    seed_everything(0)
    augment = Compose(
        RandomApply(lambda x: x + 0.1 * torch.randn_like(x), p=0.8),
        RandomApply(torch.flip if False else (lambda x: x.flip(0)), p=0.2),
    )
    loader = torch.utils.data.DataLoader(
        Points(64, ContrastiveLearningViewGenerator(augment)),
        batch_size=args.batch_size,
        shuffle=True,
        drop_last=True,
    )
    net = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 8))
    learner = BYOL(net, 8)
    optimizer = torch.optim.Adam(learner.parameters(), 3e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=len(loader), eta_min=0, last_epoch=-1
    )
    n_iter, total = 0, args.epochs * len(loader)
    for epoch_counter in range(args.epochs):
        losses, top1, top5 = Meter("Loss", ":.4e"), Meter("Acc@1", ":6.2f"), Meter("Acc@5", ":6.2f")
        progress = ProgressMeter(
            len(loader), [losses, top1, top5], prefix="Epoch: [{}]".format(epoch_counter)
        )
        for i, (images, _) in enumerate(loader):
            logits, labels = info_nce_loss(args, learner.online(torch.cat(images, dim=0)))
            loss = F.cross_entropy(logits, labels) + learner(*images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            learner.update_moving_average(1 - (1 - 0.9) * (math.cos(math.pi * n_iter / total) + 1) / 2)
            acc1, acc5 = accuracy(logits, labels, topk=(1, 5))
            (
                losses.update(loss.item(), images[0].size(0)),
                top1.update(acc1[0].item()),
                top5.update(acc5[0].item()),
            )
            if n_iter % 3 == 0:
                progress.display(i)
            n_iter += 1
        if epoch_counter >= 1:
            scheduler.step()
    print("final", digest(learner, optimizer, scheduler.get_last_lr()))


if __name__ == "__main__":
    main()

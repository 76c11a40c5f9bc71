"""K-fold in a random search: an optuna-like study, pruning by exception, sklearn's folds and scalers, a csv and a json of results."""

import csv
import itertools
import json
import random
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, wraps

import numpy as np
import torch
from sklearn.datasets import make_regression
from sklearn.model_selection import KFold, StratifiedShuffleSplit, train_test_split
from sklearn.preprocessing import StandardScaler
from sums import digest, seed_everything


class TrialPruned(Exception):
    pass


@dataclass
class Trial:
    study: "Study"
    number: int
    params: dict = field(default_factory=dict)
    intermediate: dict = field(default_factory=dict)
    value: float = None
    state: str = "RUNNING"

    def suggest_float(self, name, low, high, log=False):
        rng = self.study.rng
        value = float(np.exp(rng.uniform(np.log(low), np.log(high)))) if log else rng.uniform(low, high)
        return self.params.setdefault(name, value)

    def suggest_categorical(self, name, choices):
        return self.params.setdefault(name, self.study.rng.choice(choices))

    def report(self, value, step):
        self.intermediate[step] = value

    def should_prune(self):
        others = [
            t.intermediate[s]
            for t in self.study.trials[:-1]
            for s in self.intermediate
            if s in t.intermediate and s == max(self.intermediate)
        ]
        return len(others) > 2 and self.intermediate[max(self.intermediate)] > float(np.median(others))


class Study:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.trials = []

    @property
    def best_trial(self):
        return min((t for t in self.trials if t.state == "COMPLETE"), key=lambda t: t.value)

    def optimize(self, objective, n_trials):
        for n in range(n_trials):
            trial = Trial(self, n)
            self.trials.append(trial)
            try:
                trial.value = objective(trial)
                trial.state = "COMPLETE"
            except TrialPruned:
                trial.state = "PRUNED"
            print(f"Trial {n} {trial.state} {trial.value} {json.dumps(trial.params, sort_keys=True)}")


calls = 0


def counted(fn):
    @wraps(fn)
    def wrapper(*args, **kwargs):
        global calls
        calls += 1
        wrapper.last = kwargs.get("tag", "?")
        return fn(*args, **kwargs)

    wrapper.last = None
    return wrapper


@lru_cache(maxsize=None)
def dataset(noise):
    x, y = make_regression(n_samples=80, n_features=5, noise=noise, random_state=1)
    return x.astype(np.float32), (y / np.abs(y).max()).astype(np.float32)


@counted
def fit(x, y, vx, vy, lr, width, epochs, trial=None, fold=0, tag=""):
    torch.manual_seed(fold)
    scaler = StandardScaler().fit(x)
    x, vx = (torch.tensor(scaler.transform(each)) for each in (x, vx))
    y, vy = torch.tensor(y)[:, None], torch.tensor(vy)[:, None]
    net = torch.nn.Sequential(torch.nn.Linear(5, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))
    optimizer = torch.optim.RMSprop(net.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    best = float("inf")
    for epoch in range(epochs):
        for start in range(0, len(x), 20):
            loss = torch.nn.functional.mse_loss(net(x[start : start + 20]), y[start : start + 20])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.inference_mode():
            val = torch.nn.functional.mse_loss(net(vx), vy).item()
        scheduler.step(val)
        best = min(best, val)
        if trial is not None:
            trial.report(val, fold * epochs + epoch)
            if trial.should_prune():
                raise TrialPruned(f"at {epoch}")
    fit_results.append((tag, round(best, 6), optimizer.param_groups[0]["lr"]))
    return best, net


def objective(trial):
    lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    width = trial.suggest_categorical("width", [4, 8, 16])
    x, y = dataset(0.1)
    scores = []
    for fold, (train_idx, val_idx) in enumerate(
        KFold(n_splits=3, shuffle=True, random_state=trial.number).split(x)
    ):
        score, _ = fit(
            x[train_idx],
            y[train_idx],
            x[val_idx],
            y[val_idx],
            lr,
            width,
            3,
            trial=trial,
            fold=fold,
            tag=f"t{trial.number}f{fold}",
        )
        scores.append(score)
    return float(np.mean(scores))


seed_everything(3)
fit_results = []
study = Study(seed=10)
study.optimize(objective, n_trials=6)
print("best", study.best_trial.number, study.best_trial.value)

with open("grid.csv", "w", newline="") as f:
    writer = csv.DictWriter(f, fieldnames=["lr", "width", "score"])
    writer.writeheader()
    grid = {"lr": [1e-3, 1e-2], "width": [4, 8]}
    for values in itertools.product(*grid.values()):
        config = dict(zip(grid.keys(), values))
        x, y = dataset(0.2)
        x, vx, y, vy = train_test_split(x, y, test_size=0.25)
        score, net = fit(x, y, vx, vy, **config, epochs=2, tag="grid")
        writer.writerow({**config, "score": f"{score:.6f}"})
        print(config, f"{score:.6f}")
labels = np.arange(80) % 4
for number, (a, b) in enumerate(
    StratifiedShuffleSplit(n_splits=2, test_size=20, random_state=None).split(dataset(0.1)[0], labels)
):
    score, net = fit(
        *(dataset(0.1)[k][i] for i in (a, b) for k in (0, 1)), lr=0.01, width=8, epochs=2, tag="split"
    )
    print("split", number, f"{score:.6f}", a[:5].tolist())
with open("study.json", "w") as f, suppress(TypeError):
    json.dump([{k: v for k, v in vars(t).items() if k != "study"} for t in study.trials], f, indent=1)
print(calls, fit.last, len(fit_results), dataset.cache_info().hits)
print("final", digest(net, fit_results, study.rng.random()))

"""minGPT's Trainer: callbacks in a defaultdict, a CfgNode, an infinite sampler with replacement, next() and StopIteration."""

import math
import time
from ast import literal_eval
from collections import defaultdict

import torch
import torch.nn as nn
from sums import digest, seed_everything
from torch.nn import functional as F
from torch.utils.data import Dataset
from torch.utils.data.dataloader import DataLoader


class CfgNode:
    def __init__(self, **kwargs):
        self.__dict__.update(kwargs)

    def __str__(self):
        return self._str_helper(0)

    def _str_helper(self, indent):
        parts = []
        for k, v in self.__dict__.items():
            if isinstance(v, CfgNode):
                parts.append("%s:\n" % k)
                parts.append(v._str_helper(indent + 1))
            else:
                parts.append("%s: %s\n" % (k, v))
        parts = [" " * (indent * 4) + p for p in parts]
        return "".join(parts)

    def merge_from_args(self, args):
        for arg in args:
            keyval = arg.split("=")
            key, val = keyval
            try:
                val = literal_eval(val)
            except ValueError:
                pass
            keys = key[2:].split(".")
            obj = self
            for k in keys[:-1]:
                obj = getattr(obj, k)
            leaf_key = keys[-1]
            assert hasattr(obj, leaf_key)
            print("command line overwriting config attribute %s with %s" % (key, val))
            setattr(obj, leaf_key, val)


class SortDataset(Dataset):
    def __init__(self, split, length=6, num_digits=3):
        assert split in {"train", "test"}
        self.split, self.length, self.num_digits = split, length, num_digits

    def __len__(self):
        return 1000

    def __getitem__(self, idx):
        while True:
            inp = torch.randint(self.num_digits, size=(self.length,), dtype=torch.long)
            if torch.rand(1).item() < 0.5 and inp.unique().nelement() > self.length // 2:
                continue
            h = hash(tuple(inp.tolist()))
            inp_split = "test" if h % 4 == 0 else "train"
            if inp_split == self.split:
                break
        sol = torch.sort(inp)[0]
        cat = torch.cat((inp, sol), dim=0)
        x, y = cat[:-1].clone(), cat[1:].clone()
        y[: self.length - 1] = -1
        return x, y


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.emb = nn.Embedding(config.vocab, config.dim)
        self.rnn = nn.GRU(config.dim, config.dim, batch_first=True)
        self.drop = nn.Dropout(config.pdrop)
        self.head = nn.Linear(config.dim, config.vocab)

    @classmethod
    def get_default_config(cls):
        return CfgNode(vocab=3, dim=12, pdrop=0.1)

    def forward(self, idx, targets=None):
        logits = self.head(self.drop(self.rnn(self.emb(idx))[0]))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        return logits, loss

    @torch.no_grad()
    def generate(self, idx, max_new_tokens, do_sample=False):
        for _ in range(max_new_tokens):
            logits, _ = self(idx)
            probs = F.softmax(logits[:, -1, :], dim=-1)
            if do_sample:
                idx_next = torch.multinomial(probs, num_samples=1)
            else:
                _, idx_next = torch.topk(probs, k=1, dim=-1)
            idx = torch.cat((idx, idx_next), dim=1)
        return idx


class Trainer:
    @staticmethod
    def get_default_config():
        C = CfgNode()
        C.device = "auto"
        C.num_workers = 0
        C.max_iters = None
        C.batch_size = 8
        C.learning_rate = 5e-3
        C.betas = (0.9, 0.95)
        C.grad_norm_clip = 1.0
        return C

    def __init__(self, config, model, train_dataset):
        self.config = config
        self.model = model
        self.optimizer = None
        self.train_dataset = train_dataset
        self.callbacks = defaultdict(list)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = self.model.to(self.device)
        self.iter_num = 0
        self.iter_time = 0.0
        self.iter_dt = 0.0

    def add_callback(self, onevent: str, callback):
        self.callbacks[onevent].append(callback)

    def set_callback(self, onevent: str, callback):
        self.callbacks[onevent] = [callback]

    def trigger_callbacks(self, onevent: str):
        for callback in self.callbacks.get(onevent, []):
            callback(self)

    def run(self):
        model, config = self.model, self.config
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=config.betas)
        train_loader = DataLoader(
            self.train_dataset,
            sampler=torch.utils.data.RandomSampler(
                self.train_dataset, replacement=True, num_samples=int(120)
            ),
            shuffle=False,
            batch_size=config.batch_size,
            num_workers=config.num_workers,
        )
        model.train()
        self.iter_num = 0
        data_iter = iter(train_loader)
        while True:
            try:
                batch = next(data_iter)
            except StopIteration:
                data_iter = iter(train_loader)
                batch = next(data_iter)
            batch = [t.to(self.device) for t in batch]
            x, y = batch
            logits, self.loss = model(x, y)
            model.zero_grad(set_to_none=True)
            self.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_norm_clip)
            self.optimizer.step()
            self.trigger_callbacks("on_batch_end")
            self.iter_num += 1
            self.iter_dt = time.time() - self.iter_time if False else 0.0
            if config.max_iters is not None and self.iter_num >= config.max_iters:
                break


def eval_split(trainer, split, max_batches):
    dataset = {"train": train_dataset, "test": test_dataset}[split]
    n = train_dataset.length
    results = []
    loader = DataLoader(dataset, batch_size=20, num_workers=0, drop_last=False)
    for b, (x, y) in enumerate(loader):
        inp, sol = x[:, :n], y[:, -n:]
        cat = model.generate(inp, n, do_sample=False)
        correct = (sol == cat[:, n:]).all(1).cpu()
        for i in range(x.size(0)):
            results.append(int(correct[i]))
        if max_batches is not None and b + 1 >= max_batches:
            break
    rt = torch.tensor(results, dtype=torch.float)
    print("%s final score: %d/%d = %.2f%% correct" % (split, rt.sum(), len(results), 100 * rt.mean()))
    return rt.sum()


seed_everything(3407)
train_dataset, test_dataset = SortDataset("train"), SortDataset("test")
C = CfgNode(trainer=Trainer.get_default_config(), model=Model.get_default_config())
C.merge_from_args(["--trainer.max_iters=34", "--model.pdrop=0.2"])
print(C)
model = Model(C.model)
trainer = Trainer(C.trainer, model, train_dataset)
top_score = 0


def batch_end_callback(trainer):
    global top_score
    if trainer.iter_num % 5 == 0:
        print(f"iter {trainer.iter_num}: train loss {trainer.loss.item():.5f}")
    if trainer.iter_num % 12 == 0:
        model.eval()
        with torch.no_grad():
            score = sum(eval_split(trainer, split, max_batches=2) for split in ("train", "test"))
        if score > top_score:
            top_score = score
            torch.save(model.state_dict(), "model.pt")
        model.train()


trainer.set_callback("on_batch_end", batch_end_callback)
trainer.add_callback("on_batch_end", lambda t: math.isfinite(t.loss.item()) or print("diverged"))
trainer.run()
print("final", digest(model, trainer.optimizer, top_score))

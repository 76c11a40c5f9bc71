"""Trains a small transformer to write text, one character at a time.

Flat, as such scripts often are: all of it runs from top to bottom. The text is this repository's
licence unless --text names another file.
"""

import argparse
import math
import os

import numpy as np
import torch
import torch.nn as nn
from torch.nn import functional as F

here = os.path.dirname(os.path.abspath(__file__))
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--text", default=os.path.join(here, "..", "LICENSE"))
parser.add_argument("--out", default="charlm-out", help="folder for the data and the models")
parser.add_argument("--max-iters", type=int, default=300)
parser.add_argument("--eval-interval", type=int, default=50)
parser.add_argument("--eval-iters", type=int, default=10)
parser.add_argument("--log-interval", type=int, default=10)
parser.add_argument("--batch-size", type=int, default=12)
parser.add_argument("--accumulate", type=int, default=4, help="micro batches in a step")
parser.add_argument("--block-size", type=int, default=64)
parser.add_argument("--layers", type=int, default=2)
parser.add_argument("--heads", type=int, default=4)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--sample", type=int, default=200, help="characters to write at the end")
parser.add_argument("--seed", type=int, default=1337)
args = parser.parse_args()

torch.manual_seed(args.seed)
os.makedirs(args.out, exist_ok=True)

# data: characters as numbers, in two files that are mapped into memory
with open(args.text, encoding="utf-8") as f:
    text = f.read()
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
train_bin = os.path.join(args.out, "train.bin")
val_bin = os.path.join(args.out, "val.bin")
if not os.path.exists(val_bin):
    ids = np.array([stoi[c] for c in text], dtype=np.uint16)
    ids[: len(ids) * 9 // 10].tofile(train_bin)
    ids[len(ids) * 9 // 10 :].tofile(val_bin)


def get_batch(split):
    # a new memmap for each batch, as keeping one open leaks memory
    data = np.memmap(train_bin if split == "train" else val_bin, dtype=np.uint16, mode="r")
    ix = torch.randint(len(data) - args.block_size, (args.batch_size,))
    x = torch.stack([torch.from_numpy(data[i : i + args.block_size].astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + args.block_size].astype(np.int64)) for i in ix])
    return x, y


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1 = nn.LayerNorm(args.width)
        self.qkv = nn.Linear(args.width, 3 * args.width, bias=False)
        self.proj = nn.Linear(args.width, args.width, bias=False)
        self.ln2 = nn.LayerNorm(args.width)
        self.mlp = nn.Sequential(
            nn.Linear(args.width, 4 * args.width), nn.GELU(), nn.Linear(4 * args.width, args.width)
        )
        self.dropout = nn.Dropout(args.dropout)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (
            part.view(b, t, args.heads, c // args.heads).transpose(1, 2)
            for part in self.qkv(self.ln1(x)).split(c, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.proj(y.transpose(1, 2).reshape(b, t, c)))
        return x + self.dropout(self.mlp(self.ln2(x)))


class CharLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(len(chars), args.width)
        self.position = nn.Embedding(args.block_size, args.width)
        self.dropout = nn.Dropout(args.dropout)
        self.blocks = nn.Sequential(*[Block() for _ in range(args.layers)])
        self.ln = nn.LayerNorm(args.width)
        self.head = nn.Linear(args.width, len(chars), bias=False)
        self.token.weight = self.head.weight  # tied

    def forward(self, x, targets=None):
        h = self.dropout(self.token(x) + self.position(torch.arange(x.shape[1])))
        logits = self.head(self.ln(self.blocks(h)))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


model = CharLM()
for p in model.parameters():
    if p.dim() == 2:
        nn.init.normal_(p, std=0.02)
print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(chars)} characters")

decay = [p for p in model.parameters() if p.dim() >= 2]
no_decay = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW(
    [{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}],
    lr=args.lr,
    betas=(0.9, 0.95),
)


@torch.no_grad()
def estimate_loss():
    out = {}
    model.eval()
    for split in ["train", "val"]:
        losses = torch.zeros(args.eval_iters)
        for k in range(args.eval_iters):
            x, y = get_batch(split)
            _, loss = model(x, y)
            losses[k] = loss.item()
        out[split] = losses.mean()
    model.train()
    return out


def get_lr(it):
    warmup = args.max_iters // 20 + 1
    if it < warmup:
        return args.lr * (it + 1) / warmup
    ratio = (it - warmup) / max(1, args.max_iters - warmup)
    return 0.1 * args.lr + 0.45 * args.lr * (1.0 + math.cos(math.pi * min(1.0, ratio)))


X, Y = get_batch("train")  # the very first batch
iter_num = 0
best_val_loss = 1e9
while True:
    lr = get_lr(iter_num)
    for group in optimizer.param_groups:
        group["lr"] = lr

    if iter_num % args.eval_interval == 0:
        losses = estimate_loss()
        print(f"step {iter_num}: train loss {losses['train']:.6f}, val loss {losses['val']:.6f}")
        if losses["val"] < best_val_loss:
            best_val_loss = losses["val"]
            if iter_num > 0:
                checkpoint = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "iter_num": iter_num,
                    "best_val_loss": best_val_loss,
                    "args": vars(args),
                }
                print(f"saving the best model to {args.out}")
                torch.save(checkpoint, os.path.join(args.out, "best.pt"))

    for micro_step in range(args.accumulate):
        logits, loss = model(X, Y)
        loss = loss / args.accumulate
        X, Y = get_batch("train")
        loss.backward()
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

    if iter_num % args.log_interval == 0:
        print(f"iter {iter_num}: loss {loss.item() * args.accumulate:.6f}, norm {grad_norm:.6f}, lr {lr:.6f}")
    iter_num += 1
    if iter_num > args.max_iters:
        break

torch.save(model.state_dict(), os.path.join(args.out, "final.pt"))

model.eval()
written = torch.zeros((1, 1), dtype=torch.long)
with torch.no_grad():
    for _ in range(args.sample):
        logits, _ = model(written[:, -args.block_size :])
        probabilities = F.softmax(logits[:, -1, :], dim=-1)
        written = torch.cat((written, torch.multinomial(probabilities, 1)), dim=1)
print("".join(chars[i] for i in written[0].tolist()))

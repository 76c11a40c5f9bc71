"""LoRA: layers replaced in place by named_modules and setattr, a frozen backbone, forward hooks, adapters merged at the end."""

import math
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto

import torch
import torch.nn as nn
from sums import digest, seed_everything


class Bias(Enum):
    NONE = auto()
    ALL = auto()
    LORA_ONLY = auto()


@dataclass(frozen=True)
class LoraConfig:
    r: int = 2
    alpha: float = 4.0
    dropout: float = 0.1
    targets: tuple = ("q", "v")
    bias: Bias = Bias.NONE


class LoraLinear(nn.Module):
    def __init__(self, base, config):
        super().__init__()
        self.base = base
        for p in base.parameters():
            p.requires_grad_(config.bias is Bias.ALL and p.ndim == 1)
        self.lora_A = nn.Parameter(torch.empty(config.r, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, config.r))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scaling = config.alpha / config.r
        self.dropout = nn.Dropout(config.dropout)
        self.merged = False

    @property
    def delta(self):
        return self.lora_B @ self.lora_A * self.scaling

    def forward(self, x):
        if self.merged:
            return self.base(x)
        return self.base(x) + self.dropout(x) @ self.delta.T


class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x):
        return torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), dim=-1) @ self.v(x) + x


def inject(model, config):
    for name, module in list(model.named_modules()):
        parent = model.get_submodule(name.rpartition(".")[0]) if "." in name else model
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in config.targets:
            setattr(parent, name.rpartition(".")[2], LoraLinear(module, config))
    return model


@contextmanager
def merged(model):
    layers = [m for m in model.modules() if isinstance(m, LoraLinear)]
    for m in layers:
        m.base.weight.data += m.delta.detach()
        m.merged = True
    try:
        yield model
    finally:
        for m in layers:
            m.base.weight.data -= m.delta.detach()
            m.merged = False


seed_everything(0)
backbone = nn.Sequential(
    OrderedDict(embed=nn.Embedding(13, 8), a1=Attention(8), a2=Attention(8), head=nn.Linear(8, 13))
)
x = torch.randint(13, (64, 6))
opt = torch.optim.Adam(backbone.parameters(), lr=1e-2)
for step in range(8):
    loss = nn.functional.cross_entropy(backbone(x).flatten(0, 1), x.flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
print(f"pretrained {loss.item():.6f}")
torch.save(backbone.state_dict(), "backbone.pt")
backbone.load_state_dict(torch.load("backbone.pt", map_location="cpu"))
for p in backbone.parameters():
    p.requires_grad = False
model = inject(backbone, replace(LoraConfig(), r=3))
trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
print(f"trainable params: {sum(p.numel() for p in trainable.values())} || {list(trainable)}")
seen = {}
handles = [
    m.register_forward_hook(
        lambda mod, inp, out, name=n: seen.__setitem__(name, seen.get(name, 0.0) + out.detach().norm().item())
    )
    for n, m in model.named_modules()
    if isinstance(m, LoraLinear)
]
opt = torch.optim.AdamW(trainable.values(), lr=2e-2, weight_decay=0.01)
scheduler = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=5e-2, total_steps=24)
target = (x + 1) % 13
for epoch in range(3):
    perm = torch.randperm(64)
    for i in range(0, 64, 8):
        idx = perm[i : i + 8]
        loss = nn.functional.cross_entropy(model(x[idx]).flatten(0, 1), target[idx].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(trainable.values(), 1.0)
        opt.step()
        scheduler.step()
        opt.zero_grad(set_to_none=True)
    with torch.no_grad(), merged(model) as m:
        for part in x.split(32):
            print(f"epoch {epoch} merged {m(part).sum().item():.5f} lr {scheduler.get_last_lr()[0]:.6f}")
for h in handles:
    h.remove()
adapter = OrderedDict((k, v) for k, v in model.state_dict().items() if "lora_" in k)
torch.save(adapter, "adapter.pt")
print("final", digest(model, opt, seen, adapter))

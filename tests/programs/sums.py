"""One line that stands for all that a training run ended with."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def seed_everything(seed):
    """Seed every global generator."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def digest(*things):
    """A hash over tensors, state dicts, plain values and all global random generators."""
    total = hashlib.sha256()
    _feed(total, things)
    _feed(total, (torch.get_rng_state(), np.random.get_state(), random.getstate()))
    return total.hexdigest()[:32]


def _feed(total, value):
    if isinstance(value, torch.nn.Module | torch.optim.Optimizer):
        value = value.state_dict()
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        if value.dtype is torch.bfloat16:
            value = value.float()
        value = value.numpy()
    if isinstance(value, np.ndarray):
        total.update(str(value.dtype).encode() + str(value.shape).encode() + value.tobytes())
    elif isinstance(value, dict):
        for key, each in value.items():
            total.update(repr(key).encode())
            _feed(total, each)
    elif isinstance(value, list | tuple):
        total.update(f"{len(value)}".encode())
        for each in value:
            _feed(total, each)
    else:
        total.update(repr(value).encode())

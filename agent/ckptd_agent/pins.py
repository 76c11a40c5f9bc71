"""Sets the usual switches for determinism from outside, so that ``ckptd prove`` can try which of them help.

Never used in a job that anybody wants the results of: seeds that the program draws are replaced by a fixed one.
"""

from __future__ import annotations

import functools
import os
import random
import sys
from collections.abc import Callable
from typing import Any

import torch

SEED = 0


def install() -> None:
    """Set what CKPTD_PINS names, separated by commas; to be called once torch is imported."""
    wanted = {word for word in os.environ.get("CKPTD_PINS", "").split(",") if word}
    in_main, in_workers = wanted & {"torch", "random", "numpy"}, "workers" in wanted
    numpy = sys.modules.get("numpy")
    seeders: list[tuple[str, Any, str]] = [
        ("torch", torch, "manual_seed"),
        ("torch", torch.random, "manual_seed"),
        ("torch", torch, "seed"),
        ("torch", torch.random, "seed"),
        ("random", random, "seed"),
    ]
    if numpy is not None:
        seeders += [("numpy", numpy.random, "seed"), ("numpy", numpy.random, "default_rng")]
    real = {(owner, name): getattr(owner, name) for _, owner, name in seeders}
    for switch, owner, name in seeders:
        function = torch.manual_seed if name == "seed" and switch == "torch" else real[owner, name]
        setattr(owner, name, _pinned(function, real[owner, name], switch in in_main, in_workers))
    for switch, seed in (("torch", torch.manual_seed), ("random", random.seed)):
        if switch in in_main:
            seed(SEED)
    if "numpy" in in_main and numpy is not None:
        numpy.random.seed(SEED)
    _set_modes(wanted)


def _pinned(
    fixed: Callable[..., Any], real: Callable[..., Any], in_main: bool, in_workers: bool
) -> Callable[..., Any]:
    @functools.wraps(real)
    def seed(*args: Any, **kwargs: Any) -> Any:
        worker = torch.utils.data.get_worker_info()
        if in_main and worker is None:
            return fixed(SEED)
        if in_workers and worker is not None:
            return fixed(SEED + worker.id)
        return real(*args, **kwargs)

    return seed


def _set_modes(wanted: set[str]) -> None:
    if "algorithms" in wanted:
        torch.use_deterministic_algorithms(True, warn_only=True)
    if "cudnn" in wanted:
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
    if "threads" in wanted:
        torch.set_num_threads(1)

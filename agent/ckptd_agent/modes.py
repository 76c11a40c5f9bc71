"""Switches and counters that belong to the process rather than to an object: torch's, and those of threading."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from ckptd.errors import RefusedError
from ckptd.protocol import Said
from ckptd_agent import link, precision, settings


def take() -> dict[str, Any]:
    """The switches as they are."""
    return {
        "grad": torch.is_grad_enabled(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "matmul": precision.matmul(),
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "threads": torch.get_num_threads(),
        "hooks": RemovableHandle.next_id,
        "thread_names": _thread_names(),
        "settings": settings.take(),
    }


def put(saved: dict[str, Any]) -> None:
    """Set them as they were; the number of threads changes the order of sums, so it must be the same."""
    torch.set_grad_enabled(saved["grad"])
    torch.set_default_dtype(getattr(torch, saved["default_dtype"]))
    torch.use_deterministic_algorithms(saved["deterministic"], warn_only=saved["warn_only"])
    if saved["matmul"] not in (None, precision.matmul()):
        torch.set_float32_matmul_precision(saved["matmul"])
    # A hook's number is its key: a new one must not take the place of one that was restored.
    RemovableHandle.next_id = saved["hooks"]
    if saved.get("thread_names") and _thread_names():
        threading._counter = itertools.count(saved["thread_names"]).__next__  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = saved["benchmark"]
    torch.backends.cudnn.deterministic = saved["cudnn_deterministic"]
    for sentence in settings.put(saved.get("settings", {})):
        link.send(Said(sentence))
    if torch.get_num_threads() != saved["threads"]:
        torch.set_num_threads(saved["threads"])
        if torch.get_num_threads() != saved["threads"]:
            raise RefusedError(
                f"the first run used {saved['threads']} threads for torch, which can't be set here"
            )


def _thread_names() -> int:
    """The number in the next thread's name, Thread-N; 0 if it can't be had."""
    counter = getattr(getattr(threading, "_counter", None), "__self__", None)
    text = repr(counter)  # an itertools.count: there is no other way to look at it without moving it
    return int(text[6:-1]) if type(counter) is itertools.count and text[6:-1].isdecimal() else 0

"""Autograd graphs: they can't be carried over, so a dump waits until the ones that are there have been used."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch

MOST = 2000
"""Nodes of one tensor's graph that are looked at."""


class Graphs:
    """Tells graphs that backward may still go through from those that it has been through."""

    def __init__(self) -> None:
        self.unused: list[Any] = []
        """The ``grad_fn`` of tensors that hang on a graph which backward may still go through."""
        self._kept: set[Any] = set()
        """Nodes that were looked at and have not been freed."""
        self._waiting: set[Any] = set()
        """Those of them that lie on a graph which backward may still go through."""

    def note(self, tensor: torch.Tensor) -> bool:
        """Look at a tensor's graph; whether backward has been through it and has freed it."""
        waiting: deque[Any] = deque([tensor.grad_fn])
        seen = {tensor.grad_fn}
        unused = False
        for _ in range(MOST):
            if not waiting:
                break
            node = waiting.popleft()
            freed = _is_freed(node)
            if freed:
                return True
            unused = unused or freed is False
            for following, _ in node.next_functions:
                unused = unused or following in self._waiting
                if following is not None and following not in seen and following not in self._kept:
                    seen.add(following)
                    waiting.append(following)
        self._kept |= seen
        if unused:
            self._waiting |= seen
            self.unused.append(tensor.grad_fn)
        return False


def _is_freed(node: Any) -> bool | None:
    """Whether what a node has kept for backward is gone; None if it keeps nothing, or does not say."""
    if getattr(getattr(node, "_forward_cls", None), "freed_before", False):
        return True  # it stands for a graph that was freed before an earlier interruption
    for name in dir(node):
        if not name.startswith("_raw_saved_"):
            continue
        try:
            found = getattr(node, name)
        except RuntimeError:  # a Function of the program's says so in this way
            return True
        for saved in found if isinstance(found, list | tuple) else [found]:
            freed = _is_gone(saved)
            if freed is not None:
                return freed
    return None


def _is_gone(saved: Any) -> bool | None:
    """The same for one SavedTensor.

    ``data`` and ``unpack_hook`` are there since torch 2.7. ``unpack()`` alone is no way to ask, as it may run
    hooks of the program's; without one it only raises if the tensor was freed (None: there never was one).
    """
    if not hasattr(saved, "unpack_hook"):
        return None
    if saved.unpack_hook is not None or saved.data is not None:
        return False
    try:
        saved.unpack()
    except RuntimeError:
        return True
    return None

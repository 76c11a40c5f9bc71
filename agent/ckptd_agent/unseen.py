"""What the agent does with the program's tensors is seen by no mode and no subclass of the program's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def torch_modes_off() -> Iterator[None]:
    """Without torch's function and dispatch modes, and without ``__torch_function__`` of subclasses. It takes 10 us."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        yield
        return
    from torch.utils._python_dispatch import _disable_current_modes

    with torch._C.DisableTorchFunction(), _disable_current_modes():
        yield

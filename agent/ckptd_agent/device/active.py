"""Which CUDA devices the program uses, and when they are done with what it gave them."""

from __future__ import annotations

import sys
from typing import Any

from ckptd_agent.device.driver import DeviceError, is_active


def used() -> list[int]:
    """Devices that have something of the program's; none is woken by that."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    try:
        return [number for number in range(torch.cuda.device_count()) if is_active(number)]
    except DeviceError:  # no driver that can be asked, such as with ROCm
        return [torch.cuda.current_device()]


def finish() -> None:
    """Wait for all streams of them, and for copies to the host that are still on their way.

    Before anything of the state is read: a hash of bytes that a side stream is about to write would tell that they
    are the old ones, and a pinned tensor may be half written.
    """
    for number in used():
        sys.modules["torch"].cuda.synchronize(number)

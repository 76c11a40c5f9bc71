"""Rooms that are locked in memory, so that devices write into them at the bus's full speed."""

from __future__ import annotations

import sys
from typing import Any

from ckptd.memory.room import Room
from ckptd_agent.device.driver import DeviceError, use

PIECE = 64 << 20
"""Bytes that are locked at a time, whole regions of a room: other calls of the driver wait as long."""

_broken = False
"""It failed once: as where the limit of locked memory is low."""


def pin(room: Room) -> bool:
    """Lock one more piece of what is ready; whether there is more to do. Does nothing where no device is in use."""
    global _broken
    torch: Any = sys.modules.get("torch")
    if _broken or torch is None or not torch.cuda.is_initialized():
        return False
    begin = len(room.pinned) * PIECE
    if begin + PIECE > room.ready:
        return False
    try:
        with use(torch.cuda.current_device()) as device:
            device.pin(room.address() + begin, PIECE)
    except DeviceError:
        _broken = True
        return False
    room.pinned.append(room.address() + begin)
    room.before_move = unpin
    return True


def unpin(room: Room) -> None:
    """Unlock all of it: it is about to be mapped elsewhere, or no more."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not room.pinned:
        return
    try:
        with use(torch.cuda.current_device()) as device:
            for address in room.pinned:
                device.unpin(address)
    except DeviceError:  # the driver keeps what it can't let go of
        pass
    room.pinned.clear()

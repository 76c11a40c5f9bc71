"""Rooms that are locked in memory, so that devices write into them at the bus's full speed."""

from __future__ import annotations

import atexit
import os
from _thread import allocate_lock
from contextlib import suppress

from ckptd.memory.room import Room
from ckptd_agent.device import active
from ckptd_agent.device.driver import Device, DeviceError

PIECE = 64 << 20
"""Bytes that are locked at a time, whole regions of a room: other calls of the driver wait as long."""
AT_EXIT = 5.0
"""Seconds that the end of the program waits for a piece that is being locked, at most."""

_turn = allocate_lock()
_pid = 0
_over = False
"""It failed once, as where the limit of locked memory is low; or the program ends."""


class Pins:
    """The locked pieces of one room, and the device that they are locked through.

    That is held as long: what was locked ends with its context.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.addresses: list[int] = []

    def __call__(self, room: Room) -> bool:
        """Unlock all: the room is about to be elsewhere, or no more. False if its addresses must stay its own."""
        room.before_move = None
        free = True
        for address in self.addresses:
            try:
                with self.device.current():
                    self.device.unpin(address)
            except DeviceError:  # a device may still write there
                free = False
        with suppress(DeviceError):
            self.device.close()
        return free


def pin(room: Room) -> bool:
    """Lock one more piece of what is ready; whether there is more to do. Does nothing where no device is in use."""
    global _over, _pid
    pins = room.before_move if isinstance(room.before_move, Pins) else None
    begin = len(pins.addresses) * PIECE if pins is not None else 0
    if begin + PIECE > room.ready or not (devices := active.used()):
        return False
    if not _pid:
        atexit.register(_stop)
    _pid = os.getpid()
    with _turn:
        if _over:
            return False
        try:
            if pins is None:
                pins = room.before_move = Pins(Device(devices[0]))
            with pins.device.current():
                pins.device.pin(room.address() + begin, PIECE)
        except DeviceError:
            _over = True
            return False
    pins.addresses.append(room.address() + begin)
    return True


def _stop() -> None:
    """The driver is about to be taken down."""
    global _over
    if _pid == os.getpid() and _turn.acquire(timeout=AT_EXIT):
        _over = True
        _turn.release()

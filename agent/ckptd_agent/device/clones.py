"""Copies of storages aside on their own devices: training may go on as soon as they are made."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ckptd.memory.segment import REGION, Tensor
from ckptd_agent.device.driver import Device, DeviceError
from ckptd_agent.device.fetching import Piece

MARGIN = 2 << 30
"""Bytes that stay free on a device, at least: what the program asks for meanwhile it gets."""
SHARE = 0.1
"""Part of the device's memory that stays free."""


@dataclass(frozen=True)
class Far:
    """A storage that lies on a device."""

    device: int
    address: int
    tensor: Tensor


class Clones:
    """Copies of some storages, in one block for each device, side by side as in the room."""

    def __init__(self, storages: Sequence[Far]) -> None:
        """Make them, and wait until they are made. Raises DeviceError where there is no room for them.

        All streams of the program's are waited for before that: what they are about to write is part of the state.
        """
        self._blocks: list[tuple[Device, int, int]] = []
        self.pieces: list[Piece] = []
        try:
            for number in sorted({each.device for each in storages}):
                self._clone_all(number, [each for each in storages if each.device == number])
            for device, stream, _ in self._blocks:
                with device.current():
                    device.wait(stream)
        except BaseException:
            self.close()
            raise

    def _clone_all(self, number: int, storages: list[Far]) -> None:
        storages.sort(key=lambda each: each.tensor.offset)
        total = sum(each.tensor.nbytes for each in storages)
        device = Device(number)
        with device.current():
            free, in_all = device.memory()
            if free - total < max(MARGIN, SHARE * in_all):
                device.close()
                raise DeviceError(
                    0, f"device {number} has {free >> 20} MiB free, {total >> 20} MiB are needed"
                )
            device.finish()
            stream = device.open_stream()
            self._blocks.append((device, stream, 0))
            block = device.take(total, stream)
            self._blocks[-1] = (device, stream, block)
            at = block
            for each in storages:
                device.clone(at, each.address, each.tensor.nbytes, stream)
                at += each.tensor.nbytes
        self.pieces += cut(number, block, storages)

    def close(self) -> None:
        """Give their memory back."""
        blocks, self._blocks = self._blocks, []
        for device, stream, block in blocks:
            with device.current():
                with suppress(DeviceError):  # whoever used them has met that
                    if block:
                        device.free(block, stream)
                    device.wait(stream)
                device.close_stream(stream)
            device.close()


def cut(device: int, block: int, storages: Sequence[Far]) -> list[Piece]:
    """What lies side by side in the block and in the room is one piece, up to the end of a region."""
    pieces: list[Piece] = []
    at = block
    for each in storages:
        for piece in regions(device, at, each.tensor):
            last = pieces[-1] if pieces else None
            if (
                last is not None
                and last.offset + last.nbytes == piece.offset
                and last.offset // REGION == piece.offset // REGION
            ):
                pieces[-1] = Piece(device, last.source, last.offset, last.nbytes + piece.nbytes)
            else:
                pieces.append(piece)
        at += each.tensor.nbytes
    return pieces


def regions(device: int, address: int, tensor: Tensor) -> list[Piece]:
    """Cut where a region ends."""
    pieces = []
    offset, end = tensor.offset, tensor.offset + tensor.nbytes
    while offset < end:
        count = min(end, offset - offset % REGION + REGION) - offset
        pieces.append(Piece(device, address, offset, count))
        address, offset = address + count, offset + count
    return pieces

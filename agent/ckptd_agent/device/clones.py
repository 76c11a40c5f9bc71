"""Copies of storages aside on their own devices: training may go on as soon as they are made."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from ckptd.memory.segment import REGION, Tensor
from ckptd_agent.device.driver import Device, DeviceError
from ckptd_agent.device.fetching import Piece

MARGIN = 2 << 30
"""Bytes that stay free on a device, at least, for what the program may come to need meanwhile."""
SHARE = 0.1
"""Part of the device's memory that stays free."""


@dataclass(frozen=True)
class Far:
    """A storage that lies on a device."""

    device: int
    address: int
    tensor: Tensor


@dataclass
class _Block:
    """Memory of one device, and the stream that it belongs to."""

    device: Device
    stream: int = 0
    address: int = 0

    def close(self) -> None:
        """Give all of it back; what a device that has failed says to that is of no use."""
        with suppress(DeviceError), self.device.current():
            if self.address:
                with suppress(DeviceError):
                    self.device.free(self.address, self.stream)
            if self.stream:
                with suppress(DeviceError):
                    self.device.wait(self.stream)
                self.device.close_stream(self.stream)
        with suppress(DeviceError):
            self.device.close()


class Clones:
    """Copies of some storages, in one block for each device, side by side as in the room."""

    def __init__(self, storages: Sequence[Far]) -> None:
        """Make them, and wait until they are made. Raises DeviceError where there is no room for them.

        What the program had given its devices to do must be done (active.finish).
        """
        self._blocks: list[_Block] = []
        self.pieces: list[Piece] = []
        try:
            for number in sorted({each.device for each in storages}):
                self._clone_all(number, [each for each in storages if each.device == number])
            for block in self._blocks:
                with block.device.current():
                    block.device.wait(block.stream)
        except BaseException:
            self.close()
            raise

    def _clone_all(self, number: int, storages: list[Far]) -> None:
        storages.sort(key=lambda each: each.tensor.offset)
        total = sum(each.tensor.nbytes for each in storages)
        peak = to_come(number)
        device = Device(number)
        block = _Block(device)
        self._blocks.append(block)
        with device.current():
            free, in_all = device.memory()
            if free - peak - total < max(MARGIN, SHARE * in_all):
                raise DeviceError(
                    0, f"device {number} has {free >> 20} MiB free, {total >> 20} MiB are needed"
                )
            block.stream = device.open_stream()
            at = block.address = device.take(total, block.stream)
            for each in storages:
                device.clone(at, each.address, each.tensor.nbytes, block.stream)
                at += each.tensor.nbytes
        self.pieces += cut(number, block.address, storages)

    def close(self) -> None:
        """Give their memory back. Nothing may be on its way from them any more."""
        blocks, self._blocks = self._blocks, []
        for block in blocks:
            block.close()


def to_come(number: int) -> int:
    """Bytes that torch has had of a device and given back: it will ask for them again. Raises DeviceError."""
    if torch.cuda.get_allocator_backend() != "native":
        raise DeviceError(0, "the program's memory comes from the pool that copies would come from")
    return torch.cuda.max_memory_reserved(number) - torch.cuda.memory_reserved(number)


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

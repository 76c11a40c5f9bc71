"""Brings bytes from devices into a room, several groups of them on their way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, zip_longest

from ckptd.memory.room import Room
from ckptd_agent.device.driver import Device, DeviceError

GROUP = 32 << 20
"""Bytes that are handed to a stream together, and waited for together."""
STREAMS = 2
"""For each device: while one group is on its way the next one is handed over."""


@dataclass(frozen=True)
class Piece:
    """Bytes of a device, and where they belong: all in one region of the room."""

    device: int
    source: int
    """Address on the device."""
    offset: int
    """In the room."""
    nbytes: int


def fetch(pieces: Sequence[Piece], room: Room, came: Callable[[Piece], None]) -> None:
    """Bring all of them over; ``came`` is called with each that is there. Raises DeviceError, OSError (ENOSPC).

    When this returns or raises nothing is on its way any more.
    """
    by_device: dict[int, list[Piece]] = {}
    for piece in pieces:
        by_device.setdefault(piece.device, []).append(piece)
    with ExitStack() as stack:
        lanes = {number: stack.enter_context(_lanes(number)) for number in by_device}
        turns = zip_longest(*(_groups(each) for each in by_device.values()))
        under_way: deque[tuple[Device, int, list[Piece]]] = deque()
        for number, group in enumerate(each for each in chain.from_iterable(turns) if each):
            device, streams = lanes[group[0].device]
            stream = streams[number // len(lanes) % STREAMS]
            _hand_over(device, stream, group, room)
            under_way.append((device, stream, group))
            if len(under_way) >= STREAMS * len(lanes):
                _wait(under_way.popleft(), came)
        while under_way:
            _wait(under_way.popleft(), came)


def _groups(pieces: list[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += piece.nbytes
        if size >= GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


@contextmanager
def _lanes(number: int) -> Iterator[tuple[Device, list[int]]]:
    """A device and streams on it, which are empty again in the end, whatever has happened."""
    device = Device(number)
    streams: list[int] = []
    try:
        with device.current():
            streams.extend(device.open_stream() for _ in range(STREAMS))
        yield device, streams
    finally:
        for stream in streams:
            # Whoever waited for it has met what went wrong; the others are waited for all the same.
            with suppress(DeviceError), device.current():
                try:
                    device.wait(stream)
                finally:
                    device.close_stream(stream)
        with suppress(DeviceError):
            device.close()


def _hand_over(device: Device, stream: int, group: list[Piece], room: Room) -> None:
    base = room.address()
    for piece in group:
        if piece.offset + piece.nbytes > room.ready:
            room.populate(piece.offset, piece.offset + piece.nbytes)
    with device.current():
        for piece in group:
            device.fetch(base + piece.offset, piece.source, piece.nbytes, stream)


def _wait(sent: tuple[Device, int, list[Piece]], came: Callable[[Piece], None]) -> None:
    device, stream, group = sent
    with device.current():
        device.wait(stream)
    for piece in group:
        came(piece)

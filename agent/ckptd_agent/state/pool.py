"""Small arrays that are written as one storage: each by itself would cost more than its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

CHUNK = 1 << 22
"""Bytes that are copied at a time."""


class Pool:
    """Arrays of one type and shape, contiguous, one behind the other."""

    def __init__(self, arrays: list[Any]) -> None:
        self.arrays = arrays
        self.nbytes: int = len(arrays) * arrays[0].nbytes

    def chunks(self) -> Iterator[bytes]:
        """Their bytes, in parts."""
        step = max(1, CHUNK // self.arrays[0].nbytes)
        tobytes = type(self.arrays[0]).tobytes
        for place in range(0, len(self.arrays), step):
            yield b"".join(map(tobytes, self.arrays[place : place + step]))

"""zstd, where the package is installed; what is read is bounded before memory is taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ckptd.errors import DamagedError, RefusedError

LEVEL = 3
SAMPLE = 1 << 18
"""Bytes by which it is judged whether the rest will get smaller."""
WORTH = 0.9
"""What doesn't get smaller than this part is left as it is."""
_PIECE = 1 << 20


def available() -> bool:
    """Whether zstd can be written and read here."""
    try:
        import zstandard  # noqa: F401
    except ImportError:
        return False
    return True


def _zstandard(where: str) -> Any:
    try:
        import zstandard
    except ImportError:
        raise RefusedError(
            f"{where} is compressed, which needs the package zstandard: pip install 'ckptd[fast]'"
        ) from None
    return zstandard


def squeeze(data: memoryview) -> bytes:
    """One frame that holds ``data``, its length and a check sum in it. zstd must be available."""
    zstandard = _zstandard("it")
    made: bytes = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(data)
    return made


def worthwhile(data: memoryview) -> bool:
    """Whether data gets smaller by a tenth or more, by its beginning and its middle."""
    middle = data.nbytes // 2
    parts = [data[: SAMPLE // 2], data[middle : middle + SAMPLE // 2]]
    size = sum(part.nbytes for part in parts)
    try:
        return size > 0 and sum(len(squeeze(part)) for part in parts) < WORTH * size
    finally:
        for part in parts:
            part.release()


def pieces(frame: memoryview | bytes, nbytes: int, where: str) -> Iterator[bytes]:
    """The content of one frame, which must be ``nbytes`` long, in pieces of bounded size.

    Raises DamagedError, and RefusedError if zstd isn't installed.
    """
    zstandard = _zstandard(where)
    done = 0
    try:
        # Allow no window larger than what is expected: the frame's own word for it is only a word.
        window = max(1 << 20, 1 << max(0, nbytes - 1).bit_length())
        maker = zstandard.ZstdDecompressor(max_window_size=min(window, 1 << 31))
        with maker.stream_reader(frame, read_across_frames=False, closefd=False) as reader:
            while piece := reader.read(min(_PIECE, nbytes - done + 1)):
                done += len(piece)
                if done > nbytes:
                    raise DamagedError(f"{where} is damaged: it holds more than the {nbytes} bytes expected")
                yield piece
    except zstandard.ZstdError as error:
        raise DamagedError(f"{where} is damaged: {error}") from error
    if done != nbytes:
        raise DamagedError(f"{where} is damaged: it holds {done} bytes, not {nbytes}")


def expand(frame: memoryview | bytes, nbytes: int, where: str) -> bytes:
    """The content of one frame; raises DamagedError, RefusedError."""
    return b"".join(pieces(frame, nbytes, where))

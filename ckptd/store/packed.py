"""msgpack from outside, decoded without taking more memory than its length justifies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack


def unpack_whole(data: bytes | memoryview, extension: Callable[[int, bytes], Any] = msgpack.ExtType) -> Any:
    """The one value that ``data`` is; raises ValueError, whatever is wrong with it.

    ``extension`` makes values of msgpack's extensions, from their code and bytes; it may raise ValueError.

    Memory is bounded by a multiple of the length. A header may claim any number of items, and room for them
    is taken at once: so the data is first walked over without making anything, which shows that all that is
    claimed is there.
    """
    limit = len(data)
    try:
        # The default of the buffer's bound is 100 MB; 0 means as much as there can be.
        walker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=0)
        walker.feed(data)
        walker.skip()
        if walker.tell() != limit:
            raise ValueError("something follows behind its end")
        return msgpack.unpackb(
            data, strict_map_key=False, max_array_len=limit, max_map_len=limit, max_str_len=limit,
            max_bin_len=limit, max_ext_len=limit, ext_hook=extension,
        )  # fmt: skip
    except (msgpack.UnpackException, ValueError, TypeError, RecursionError, OverflowError) as error:
        # TypeError: a map's key that can't be hashed, such as a list.
        raise ValueError(f"it is not whole: {str(error) or type(error).__name__}") from error

"""The head of a safetensors file, made and read without the safetensors package. See docs/format.md."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence

from ckptd.errors import DamagedError
from ckptd.memory.segment import ITEM_BYTES, Tensor
from ckptd.store.manifest import load_json

ALIGNMENT = 4096
"""The data starts at a multiple of it, so that a mapping of the file is aligned for every element type."""
LENGTH = struct.Struct("<Q")
MAX_HEAD_BYTES = 100_000_000
"""The bound of the safetensors package itself."""


def make_head(
    tensors: Sequence[Tensor],
    length: int = 0,
    shapes: Mapping[str, list[int]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Everything before the data, at least ``length`` bytes of it.

    ``shapes``: of tensors that are no vectors, by name. Raises ValueError for tensors that such a file can't hold.
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata or {"format": "ckptd"})}
    end = 0
    for tensor in tensors:
        if tensor.name in entries:
            raise ValueError(f"two tensors are named {tensor.name!r}")
        size = ITEM_BYTES.get(tensor.dtype)
        if size is None:
            raise ValueError(f"tensor {tensor.name!r} has elements of unknown type {tensor.dtype!r}")
        if tensor.offset != end or tensor.nbytes < 0 or tensor.nbytes % size:
            raise ValueError(f"tensor {tensor.name!r} doesn't follow the one before it, or is not whole")
        end += tensor.nbytes
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": (shapes or {}).get(tensor.name, [tensor.nbytes // size]),
            "data_offsets": [tensor.offset, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    end = max(LENGTH.size + len(text), length)
    padding = end + -end % ALIGNMENT - LENGTH.size - len(text)
    if len(text) + padding > MAX_HEAD_BYTES:
        raise ValueError(f"{len(tensors)} tensors are more than one file holds")
    return LENGTH.pack(len(text) + padding) + text + b" " * padding


def read_head(data: memoryview, where: str) -> tuple[int, dict[str, Tensor]]:
    """The head of the tensor file ``data``: (where its data starts, in bytes; its tensors by name).

    Raises DamagedError unless every tensor lies inside the file and they fill it without holes.
    """
    try:
        if data.nbytes < LENGTH.size:
            raise ValueError("it is too short")
        (length,) = LENGTH.unpack_from(data)
        start = LENGTH.size + length
        if length > MAX_HEAD_BYTES or start > data.nbytes:
            raise ValueError("its head is longer than itself")
        if start % ALIGNMENT:
            raise ValueError(f"its data doesn't start at a multiple of {ALIGNMENT}")
        entries = load_json(bytes(data[LENGTH.size : start]))
        entries.pop("__metadata__", None)
        tensors = {name: _tensor(name, entry) for name, entry in entries.items()}
        end = 0
        for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.nbytes)):
            if tensor.offset != end:
                raise ValueError(f"tensor {tensor.name[:80]!r} doesn't follow the one before it")
            end += tensor.nbytes
        if start + end != data.nbytes:
            raise ValueError(f"its tensors have {end} bytes, its data {data.nbytes - start}")
    except ValueError as error:
        raise DamagedError(f"{where} is not a tensor file of ckptd: {error}") from error
    return start, tensors


def _tensor(name: str, entry: object) -> Tensor:
    """One entry of the head; raises ValueError."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of {name[:80]!r} is not one of a tensor")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"{name[:80]!r} has elements of unknown type")
    if not (_numbers(shape, 1) and _numbers(offsets, 2)):
        raise ValueError(f"shape or offsets of {name[:80]!r} are not numbers")
    begin, end = offsets
    if end - begin != shape[0] * ITEM_BYTES[dtype]:
        raise ValueError(f"shape and offsets of {name[:80]!r} differ")
    return Tensor(name, dtype, end - begin, begin)


def _numbers(value: object, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value)
    )

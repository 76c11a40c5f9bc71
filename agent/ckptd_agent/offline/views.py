"""Tensors of a checkpoint, made from what ckptd.store.contents says of them."""

from __future__ import annotations

import math
from typing import Any

import torch

from ckptd.store.reader import OpenCheckpoint
from ckptd_agent.source.quiet import warnings_off

NUMPY = {
    "f8": torch.float64, "f4": torch.float32, "f2": torch.float16, "i8": torch.int64, "i4": torch.int32,
    "i2": torch.int16, "i1": torch.int8, "u1": torch.uint8, "u2": torch.uint16, "u4": torch.uint32,
    "u8": torch.uint64, "b1": torch.bool, "c8": torch.complex64, "c16": torch.complex128,
}  # fmt: skip


def dtype_of(name: str) -> torch.dtype | None:
    """torch's type of that name, or of a numpy type such as '<f4'; None if torch has none."""
    found = getattr(torch, name, None) if name.isidentifier() else NUMPY.get(name.lstrip("<|="))
    return found if isinstance(found, torch.dtype) else None


def view_of(opened: OpenCheckpoint, spec: dict[str, Any]) -> torch.Tensor:
    """A contiguous tensor with the saved values, its memory its own. Raises ValueError, CkptdError.

    ``spec``: storage, dtype, shape, stride, offset, as ckptd.store.contents.TensorView has them.
    """
    dtype = dtype_of(spec["dtype"])
    if dtype is None:
        raise ValueError(f"torch has no type {spec['dtype']}")
    shape, stride, offset = spec["shape"], spec["stride"], spec["offset"]
    saved = opened.storage(spec["storage"])
    count = saved.nbytes // dtype.itemsize
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if math.prod(shape) == 0:
        return torch.empty(shape, dtype=dtype)
    if offset < 0 or not 0 <= last < count or min(stride, default=0) < 0:
        raise ValueError("it reaches beyond its storage")
    with warnings_off():  # the buffer can't be written: we only read it
        flat = torch.frombuffer(saved, dtype=dtype, count=count)
    made = torch.as_strided(flat, shape, stride, offset).contiguous()
    return made.clone() if made.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr() else made

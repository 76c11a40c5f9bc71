"""Copies what a capture found into a segment of shared memory."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import torch

from ckptd.memory.segment import ITEM_BYTES, SegmentWriter, Tensor, arrange
from ckptd_agent.graph.capture import Capture
from ckptd_agent.state.pool import Pool


def drain(capture: Capture, graph: bytes, facts: dict[str, Any]) -> Path:
    """Write a segment; raises OSError if there is no room. Returns its path."""
    folder = Path(os.environ["CKPTD_SEGMENTS"])
    path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.seg"
    tensors = arrange([(name, _dtype(obj, capture), _nbytes(obj)) for name, obj in capture.storages.items()])
    writer = SegmentWriter(path, tensors, graph, facts)
    try:
        _copy(capture, tensors, writer.view)
    except BaseException:
        writer.abandon()
        raise
    writer.finish()
    return path


def _nbytes(obj: Any) -> int:
    return int(obj.nbytes() if isinstance(obj, torch.UntypedStorage) else obj.nbytes)


def _dtype(obj: Any, capture: Capture) -> str:
    name = capture.dtypes.get(id(obj), "U8")
    return name if _nbytes(obj) % ITEM_BYTES[name] == 0 else "U8"


def _copy(capture: Capture, tensors: list[Tensor], view: memoryview) -> None:
    if len(view) == 0:
        return
    room = torch.frombuffer(view, dtype=torch.uint8)
    for tensor in tensors:
        if tensor.nbytes == 0:
            continue
        place = room[tensor.offset : tensor.offset + tensor.nbytes]
        obj = capture.storages[tensor.name]
        if isinstance(obj, torch.UntypedStorage):
            place.copy_(
                torch.empty(0, dtype=torch.uint8, device=obj.device).set_(obj), non_blocking=obj.is_cuda
            )
        elif isinstance(obj, Pool):
            start = tensor.offset
            for chunk in obj.chunks():
                view[start : start + len(chunk)] = chunk
                start += len(chunk)
        else:
            flat = obj.reshape(-1, order="F" if _is_fortran(obj) else "C")
            view[tensor.offset : tensor.offset + tensor.nbytes] = flat.tobytes()
    if any(getattr(obj, "is_cuda", False) for obj in capture.storages.values()):
        torch.cuda.synchronize()
    del room


def _is_fortran(obj: Any) -> bool:
    return bool(obj.flags.f_contiguous and not obj.flags.c_contiguous)

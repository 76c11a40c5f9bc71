"""Writes the storages to the disk themselves, where there is no memory for a copy of them.

Training stands still for as long as the disk takes; what it takes of memory is bounded by the buffers of a few writes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ckptd.memory.segment import Spill, Tensor
from ckptd.store import extents, hashing, spilled
from ckptd_agent.state.pool import Pool

CHUNK = 8 << 20


def spill(
    storages: dict[str, Any], tensors: list[Tensor], addresses: dict[str, int]
) -> tuple[list[Tensor], Spill]:
    """Write and hash all storages: (where they lie now, and the file).

    ``addresses``: of those that lie in this process's memory in one piece. Raises OSError, ValueError.
    """
    placed = _place(tensors, addresses)
    start = spilled.head_room(placed)
    algorithm = hashing.fastest()
    path = Path(os.environ["CKPTD_SPILL"]) / f"{os.getpid()}-{os.urandom(4).hex()}.spill"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        size = start + sum(tensor.nbytes for tensor in placed)
        os.posix_fallocate(fd, 0, size)  # so that a full disk is an error before anything is written
        whole = [tensor for tensor in placed if tensor.name in addresses]
        parts = [extents.Extent(start + t.offset, addresses[t.name], t.nbytes) for t in whole]
        extents.write_fast(fd, _view, parts, lambda _: None, urgent=True)
        digests = {tensor.name: _digest(addresses[tensor.name], tensor.nbytes, algorithm) for tensor in whole}
        for tensor in placed[len(whole) :]:
            digests[tensor.name] = _write_odd(fd, start + tensor.offset, storages[tensor.name], algorithm)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return placed, Spill(str(path), start, algorithm, [digests[tensor.name] for tensor in placed])


def _place(tensors: list[Tensor], addresses: dict[str, int]) -> list[Tensor]:
    """In the order in which they are written: first what lies in memory in one piece."""
    at = 0
    placed = []
    for tensor in sorted(tensors, key=lambda tensor: tensor.name not in addresses):
        placed.append(Tensor(tensor.name, tensor.dtype, tensor.nbytes, at))
        at += tensor.nbytes
    return placed


def _view(address: int, nbytes: int) -> memoryview:
    return memoryview((ctypes.c_char * nbytes).from_address(address)).cast("B")


def _digest(address: int, nbytes: int, algorithm: str) -> str:
    hasher = hashing.hasher(algorithm)
    for start in range(0, nbytes, CHUNK):
        with _view(address + start, min(CHUNK, nbytes - start)) as view:
            hasher.update(view)
    return hasher.hexdigest()


def _write_odd(fd: int, at: int, obj: Any, algorithm: str) -> str:
    """Write what lies on a device, or scattered, part by part; its hash."""
    hasher = hashing.hasher(algorithm)
    for part in _parts(obj):
        hasher.update(part)
        with memoryview(part) as view:
            done = 0
            while done < len(view):
                done += os.pwrite(fd, view[done:], at + done)
        at += len(part)
    return hasher.hexdigest()


def _parts(obj: Any) -> Iterator[bytes]:
    if isinstance(obj, Pool):
        yield from obj.chunks()
    elif isinstance(obj, torch.UntypedStorage):
        flat = torch.empty(0, dtype=torch.uint8, device=obj.device).set_(obj)
        for start in range(0, obj.nbytes(), CHUNK):
            part = flat[start : start + CHUNK].cpu()
            yield bytes(part.untyped_storage())[: part.numel()]
    else:
        yield obj.reshape(-1).tobytes()

"""Arrays and tensors that look at the same memory: ``torch.from_numpy(array)``, ``tensor.numpy()``.

Where the fresh program has made both, they share it already. One of them that a resume makes anew is made
on the memory of the other one.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import torch

from ckptd_agent.graph.capture import Capture
from ckptd_agent.state.pool import Pool

Range = tuple[int, int, int]
"""First address, address behind the last, number of the node."""


def link(capture: Capture) -> None:
    """Write into the nodes of arrays and storages what other one they lie in. To be called once all are known."""
    arrays: list[Range] = []
    storages: list[Range] = []
    pools: list[Pool] = []
    foreign = False
    for name, obj in capture.storages.items():
        number = int(name[1:])
        if isinstance(obj, Pool):
            pools.append(obj)
        elif not isinstance(obj, torch.UntypedStorage):
            arrays.append(_range(obj, number))
        elif obj.device.type == "cpu":
            storages.append((obj.data_ptr(), obj.data_ptr() + obj.nbytes(), number))
            foreign = foreign or not obj.resizable()
    if foreign:  # arrays in a pool own their memory: a storage that lies in it can't be resized
        arrays.extend(_range(each, capture.numbers[id(each)]) for pool in pools for each in pool.arrays)
    if arrays and storages:
        done = _link_in(storages, sorted(arrays), capture, place=5)
        _link_in([each for each in arrays if each[2] not in done], sorted(storages), capture, place=7)


def _range(obj: Any, number: int) -> Range:
    start = int(obj.__array_interface__["data"][0])
    return start, start + obj.nbytes, number


def _link_in(inner: list[Range], outer: list[Range], capture: Capture, place: int) -> set[int]:
    """Link those that lie in one of ``outer``; the numbers of the latter."""
    found = set()
    for start, end, number in inner:
        nearest = bisect_right(outer, (start, 1 << 64, 0)) - 1
        if start < end and nearest >= 0 and end <= outer[nearest][1]:
            capture.alone(number)[place] = [[outer[nearest][2]], start - outer[nearest][0]]
            found.add(outer[nearest][2])
    return found


def storage_in(array: Any, offset: int, nbytes: int) -> torch.UntypedStorage:
    """A storage on the memory of an array that is contiguous in some order of its axes."""
    axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    flat = array.transpose(axes).reshape(-1).view("u1")
    return torch.from_numpy(flat[offset : offset + nbytes]).untyped_storage()


def bytes_of(storage: torch.UntypedStorage) -> Any:
    """The memory of a storage as an array of bytes."""
    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy()

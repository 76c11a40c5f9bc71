"""Copies storages into a segment: with several threads, and so that a reader may follow."""

from __future__ import annotations

import ctypes
import os
from _thread import allocate_lock, start_new_thread
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ckptd.memory.room import Room
from ckptd.memory.segment import REGION, SegmentWriter, Tensor
from ckptd_agent.graph.capture import Capture
from ckptd_agent.state import digesting
from ckptd_agent.state.pool import Pool

PIECE = 1 << 20
"""Bytes that are compared at a time. What is the same already is not written: reading costs less."""
THREADS = 4
"""Two fill the memory bus of most machines, four that of large ones."""
ALONE = 16 << 20
"""Bytes up to which starting a thread costs more than it saves."""

SMALL = 1 << 16
"""Bytes up to which giving the GIL away costs more than the copy."""

_memcpy = ctypes.PyDLL(None).memcpy  # this one keeps the GIL
_memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

Part = tuple[int, int, int]
"""Offset in the room, address of the source, bytes: all in one region."""
Digests = dict[int, tuple[int, ...]]


class Arrivals:
    """Which regions of a segment are complete: told to it as soon as that is so."""

    def __init__(self, writer: SegmentWriter, parts: Sequence[Part], late: Sequence[Tensor]) -> None:
        """``late``: what is there only when all is."""
        self._writer = writer
        self._lock = allocate_lock()
        self._missing = [0] * writer.regions
        for offset, _, _ in parts:
            self._missing[offset // REGION] += 1
        for tensor in late:
            for region in range(tensor.offset // REGION, -(-(tensor.offset + tensor.nbytes) // REGION)):
                self._missing[region] += 1

    def begin(self) -> None:
        """All but the parts and what is late is there."""
        self._tell([region for region, missing in enumerate(self._missing) if not missing])

    def came(self, part: Part) -> None:
        """A part was copied."""
        region = part[0] // REGION
        with self._lock:
            self._missing[region] -= 1
            complete = not self._missing[region]
        if complete:
            self._writer.arrived(region)

    def end(self) -> None:
        """All is there."""
        self._tell([region for region, missing in enumerate(self._missing) if missing])

    def _tell(self, regions: list[int]) -> None:
        for region in regions:
            self._writer.arrived(region)


def copy(capture: Capture, tensors: list[Tensor], writer: SegmentWriter, before: Digests) -> Digests:
    """Copy all storages. ``before``: hashes of what the room has from a device; returns what it has then.

    Raises OSError (ENOSPC).
    """
    room = writer.room
    digests = _digests(capture, tensors)
    parts: list[Part] = []
    small: list[Part] = []
    late: list[Tensor] = []
    for tensor in tensors:
        if tensor.nbytes == 0:
            continue
        obj = capture.storages[tensor.name]
        address = address_of(obj)
        if address and tensor.nbytes <= SMALL:
            small.append((tensor.offset, address, tensor.nbytes))
        elif address:
            parts.extend(_parts(tensor, address))
        elif tensor.offset not in digests or before.get(tensor.offset) != digests[tensor.offset]:
            room.populate(tensor.offset, tensor.offset + tensor.nbytes)
            _copy_odd(obj, tensor, room)
            if getattr(obj, "is_cuda", False):
                late.append(tensor)
    arrivals = Arrivals(writer, parts, late)
    _copy_small(small, room)
    arrivals.begin()
    _copy_parts(parts, room, arrivals)
    room.ready = max(room.ready, writer.data_nbytes)
    if late:
        torch.cuda.synchronize()
    arrivals.end()
    return digests


def _parts(tensor: Tensor, address: int) -> Iterator[Part]:
    """Cut where a region ends."""
    at, end = tensor.offset, tensor.offset + tensor.nbytes
    while at < end:
        count = min(end, at - at % REGION + REGION) - at
        yield at, address + at - tensor.offset, count
        at += count


def _digests(capture: Capture, tensors: list[Tensor]) -> Digests:
    """Hashes of what lies on devices, by offset: reading it there costs far less than bringing it here."""
    far = [
        tensor
        for tensor in tensors
        if isinstance(obj := capture.storages[tensor.name], torch.UntypedStorage) and obj.device.type != "cpu"
    ]
    found = digesting.digest_all([capture.storages[tensor.name] for tensor in far]) if far else []
    return {tensor.offset: digest for tensor, digest in zip(far, found, strict=True) if tensor.nbytes}


def address_of(obj: Any) -> int:
    """Where the bytes lie in this process's memory, one behind the other; 0 if they don't."""
    if isinstance(obj, torch.UntypedStorage):
        return int(obj.data_ptr()) if obj.device.type == "cpu" else 0
    if isinstance(obj, Pool) or not (obj.flags.c_contiguous or obj.flags.f_contiguous):
        return 0
    return int(obj.__array_interface__["data"][0])


def _copy_odd(obj: Any, tensor: Tensor, room: Room) -> None:
    """What lies on a device, or scattered."""
    with room.view() as view:
        if isinstance(obj, torch.UntypedStorage):
            place = torch.frombuffer(view, dtype=torch.uint8, count=tensor.nbytes, offset=tensor.offset)
            source = torch.empty(0, dtype=torch.uint8, device=obj.device).set_(obj)
            place.copy_(source, non_blocking=obj.is_cuda)
            del place
        elif isinstance(obj, Pool):
            start = tensor.offset
            for chunk in obj.chunks():
                view[start : start + len(chunk)] = chunk
                start += len(chunk)
        else:
            view[tensor.offset : tensor.offset + tensor.nbytes] = obj.reshape(-1).tobytes()


def _copy_small(parts: list[Part], room: Room) -> None:
    """Copy one by one. Raises OSError (ENOSPC)."""
    base, until = room.address(), room.ready
    for offset, source, nbytes in parts:
        if offset + nbytes > until:  # small ones lie side by side, mostly
            until = min(offset + REGION, room.nbytes)
            room.populate(offset, until)
        _memcpy(base + offset, source, nbytes)


def _copy_parts(parts: list[Part], room: Room, arrivals: Arrivals) -> None:
    """Copy with several threads, which hold no GIL while they do. Raises OSError (ENOSPC)."""
    work = iter(parts)
    count = min(THREADS, len(os.sched_getaffinity(0)))
    if sum(nbytes for _, _, nbytes in parts) <= ALONE:
        count = 1
    failed: list[OSError] = []
    # Threads that the threading module knows nothing of: the program counts and names its own.
    locks = [allocate_lock() for _ in range(count - 1)]

    def help_out(lock: Any) -> None:
        try:
            _copy_some(work, room, arrivals, failed)
        finally:
            lock.release()

    for lock in locks:
        lock.acquire()
        start_new_thread(help_out, (lock,))
    _copy_some(work, room, arrivals, failed)
    for lock in locks:
        lock.acquire()
    if failed:
        raise failed[0]


def _copy_some(work: Iterator[Part], room: Room, arrivals: Arrivals, failed: list[OSError]) -> None:
    base, ready = room.address(), room.ready
    try:
        for part in work:
            if failed:
                return
            offset, source, nbytes = part
            if offset + nbytes > ready:
                room.populate(max(offset, ready), offset + nbytes)
                ctypes.memmove(base + offset, source, nbytes)
            else:
                _copy_changed(base + offset, source, nbytes)
            arrivals.came(part)
    except OSError as error:
        failed.append(error)


def _copy_changed(target: int, source: int, nbytes: int) -> None:
    """Copy from the first piece on that differs."""
    for start in range(0, nbytes, PIECE):
        if _memcmp(target + start, source + start, min(PIECE, nbytes - start)):
            ctypes.memmove(target + start, source + start, nbytes - start)
            return

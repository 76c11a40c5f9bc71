"""Copies what a capture found into a segment of shared memory."""

from __future__ import annotations

import ctypes
import errno
import os
from _thread import allocate_lock, start_new_thread
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ckptd.memory.room import Room
from ckptd.memory.segment import ITEM_BYTES, SegmentWriter, Tensor, arrange
from ckptd_agent import rooms
from ckptd_agent.graph.capture import Capture
from ckptd_agent.state import digesting
from ckptd_agent.state.pool import Pool

PART = 8 << 20
"""Bytes that a thread copies before it takes the next part."""
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
"""Offset in the room, address of the source, bytes."""


def drain(capture: Capture, graph: bytes, facts: dict[str, Any], dump: str) -> Path:
    """Write a segment for the dump of that id. Returns its path.

    Where memory has no room for the storages, they go to the store's disk at once. Raises OSError if there is none.
    """
    tensors = arrange([(name, _dtype(obj, capture), _nbytes(obj)) for name, obj in capture.storages.items()])
    total = sum(tensor.nbytes for tensor in tensors) + len(graph)
    room = rooms.take()
    try:
        rooms.demand(room, total)
        writer = SegmentWriter(room, tensors, graph, facts, dump)
        before, room.digests = room.digests, {}
        digests = _copy(capture, tensors, room, before)
        writer.finish()
        room.digests = digests
    except OSError as error:
        rooms.let_go(room)
        if error.errno != errno.ENOSPC or "CKPTD_SPILL" not in os.environ:
            raise
        return _spill(capture, tensors, graph, facts, dump)
    except BaseException:
        rooms.give_back(room)
        raise
    rooms.lend(room, dump)
    return room.path


def _spill(capture: Capture, tensors: list[Tensor], graph: bytes, facts: dict[str, Any], dump: str) -> Path:
    """Storages to the disk, and a segment that says where they are."""
    from ckptd_agent.spill import spill

    addresses = {name: address for name, obj in capture.storages.items() if (address := _address(obj))}
    placed, file = spill(capture.storages, tensors, addresses)
    for folder in (os.environ["CKPTD_SEGMENTS"], os.environ["CKPTD_SPILL"]):
        path = Path(folder) / f"{os.getpid()}-{os.urandom(4).hex()}.seg"
        room = Room(path)
        try:
            SegmentWriter(room, placed, graph, facts, dump, file).finish()
        except OSError:
            path.unlink(missing_ok=True)  # not even for the graph
        else:
            return path
        finally:
            room.close()
    Path(file.file).unlink(missing_ok=True)
    raise OSError(errno.ENOSPC, "no space left on device", os.environ["CKPTD_SPILL"])


def _nbytes(obj: Any) -> int:
    return int(obj.nbytes() if isinstance(obj, torch.UntypedStorage) else obj.nbytes)


def _dtype(obj: Any, capture: Capture) -> str:
    name = capture.dtypes.get(id(obj), "U8")
    return name if _nbytes(obj) % ITEM_BYTES[name] == 0 else "U8"


Digests = dict[int, tuple[int, ...]]


def _copy(capture: Capture, tensors: list[Tensor], room: Room, before: Digests) -> Digests:
    """Copy all storages. ``before``: hashes of what the room has from a device; returns what it has then."""
    digests = _digests(capture, tensors)
    total = sum(tensor.nbytes for tensor in tensors)
    parts: list[Part] = []
    small: list[Part] = []
    for tensor in tensors:
        if tensor.nbytes == 0:
            continue
        obj = capture.storages[tensor.name]
        address = _address(obj)
        if address and tensor.nbytes <= SMALL:
            small.append((tensor.offset, address, tensor.nbytes))
        elif address:
            parts.extend(
                (tensor.offset + start, address + start, min(PART, tensor.nbytes - start))
                for start in range(0, tensor.nbytes, PART)
            )
        elif tensor.offset not in digests or before.get(tensor.offset) != digests[tensor.offset]:
            room.populate(tensor.offset, tensor.offset + tensor.nbytes)
            _copy_odd(obj, tensor, room)
    _copy_small(small, room)
    _copy_parts(parts, room)
    room.ready = max(room.ready, total)
    if any(getattr(obj, "is_cuda", False) for obj in capture.storages.values()):
        torch.cuda.synchronize()
    return digests


def _digests(capture: Capture, tensors: list[Tensor]) -> Digests:
    """Hashes of what lies on devices, by offset: reading it there costs far less than bringing it here."""
    far = [
        tensor
        for tensor in tensors
        if isinstance(obj := capture.storages[tensor.name], torch.UntypedStorage) and obj.device.type != "cpu"
    ]
    found = digesting.digest_all([capture.storages[tensor.name] for tensor in far]) if far else []
    return {tensor.offset: digest for tensor, digest in zip(far, found, strict=True) if tensor.nbytes}


def _address(obj: Any) -> int:
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
            until = min(offset + PART, room.nbytes)
            room.populate(offset, until)
        _memcpy(base + offset, source, nbytes)


def _copy_parts(parts: list[Part], room: Room) -> None:
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
            _copy_some(work, room, failed)
        finally:
            lock.release()

    for lock in locks:
        lock.acquire()
        start_new_thread(help_out, (lock,))
    _copy_some(work, room, failed)
    for lock in locks:
        lock.acquire()
    if failed:
        raise failed[0]


def _copy_some(work: Iterator[Part], room: Room, failed: list[OSError]) -> None:
    base, ready = room.address(), room.ready
    try:
        for offset, source, nbytes in work:
            if failed:
                return
            if offset + nbytes > ready:
                room.populate(max(offset, ready), offset + nbytes)
                ctypes.memmove(base + offset, source, nbytes)
            else:
                _copy_changed(base + offset, source, nbytes)
    except OSError as error:
        failed.append(error)


def _copy_changed(target: int, source: int, nbytes: int) -> None:
    """Copy from the first piece on that differs."""
    for start in range(0, nbytes, PIECE):
        if _memcmp(target + start, source + start, min(PIECE, nbytes - start)):
            ctypes.memmove(target + start, source + start, nbytes - start)
            return

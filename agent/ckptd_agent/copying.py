"""Copies storages into a segment: with several threads, and so that a reader may follow."""

from __future__ import annotations

import ctypes
import functools
import os
from _thread import allocate_lock
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from ckptd.memory.room import Room
from ckptd.memory.segment import REGION, SegmentWriter, Tensor
from ckptd_agent import threads
from ckptd_agent.device import clones, fetching
from ckptd_agent.device.clones import Clones, Far
from ckptd_agent.device.driver import DeviceError
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
Rest = Callable[[], None]
"""Completes a copy; raises OSError."""


class Arrivals:
    """Which regions of a segment are complete: told to it as soon as that is so."""

    def __init__(self, writer: SegmentWriter, offsets: Iterable[int]) -> None:
        """``offsets``: of all that is still to come, in pieces that lie in one region each."""
        self._writer = writer
        self._lock = allocate_lock()
        self._missing = [0] * writer.regions
        for offset in offsets:
            self._missing[offset // REGION] += 1

    def begin(self) -> None:
        """All else is there."""
        self._tell([region for region, missing in enumerate(self._missing) if not missing])

    def came(self, offset: int) -> None:
        """A piece was copied."""
        region = offset // REGION
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


def copy(
    capture: Capture,
    tensors: list[Tensor],
    writer: SegmentWriter,
    before: Digests,
    *,
    behind: bool,
    again: bool,
) -> tuple[Digests, Rest | None]:
    """Copy all storages.

    ``before``: hashes of what the room has from devices. ``again``: such hashes will be of use next time. Returns those
    of what it has then, and what is left to be done behind training, on any thread: None where all is done, as it is
    unless ``behind`` and devices have room for copies of what lies there. Raises OSError (ENOSPC).
    """
    far = [each for each in map(functools.partial(_far, capture), tensors) if each is not None]
    aside = _set_aside(far) if behind and far else None
    try:
        return _copy(capture, tensors, writer, before, far, aside, again=again)
    except BaseException:
        if aside is not None:
            aside.close()
        raise


def _copy(
    capture: Capture,
    tensors: list[Tensor],
    writer: SegmentWriter,
    before: Digests,
    far: list[Far],
    aside: Clones | None,
    *,
    again: bool,
) -> tuple[Digests, Rest | None]:
    room = writer.room
    away = {each.tensor.name for each in far}
    parts, small, odd = _sort_out(capture, [tensor for tensor in tensors if tensor.name not in away])
    if aside is None:
        digests = _digests(capture, far) if before or again else {}
        far = [each for each in far if before.get(each.tensor.offset, ()) != digests.get(each.tensor.offset)]
        pieces = [piece for each in far for piece in clones.regions(each.device, each.address, each.tensor)]
    else:
        digests, pieces = {}, aside.pieces
    for tensor in odd:
        _copy_odd(capture.storages[tensor.name], tensor, room)
    arrivals = Arrivals(writer, [offset for offset, *_ in parts] + [piece.offset for piece in pieces])
    _copy_small(small, room)
    arrivals.begin()
    _copy_parts(parts, room, arrivals)
    if aside is not None:
        return {}, functools.partial(_bring, aside, writer, arrivals)
    if far:
        _bring_now(capture, far, pieces, room, arrivals)
    room.ready = max(room.ready, writer.data_nbytes)
    arrivals.end()
    return digests, None


def _sort_out(capture: Capture, tensors: list[Tensor]) -> tuple[list[Part], list[Part], list[Tensor]]:
    """What lies in this process's memory, large and small, and what is to be asked for its bytes."""
    parts: list[Part] = []
    small: list[Part] = []
    odd = []
    for tensor in tensors:
        if tensor.nbytes == 0:
            continue
        obj = capture.storages[tensor.name]
        address = address_of(obj)
        if address and tensor.nbytes <= SMALL:
            small.append((tensor.offset, address, tensor.nbytes))
        elif address:
            parts.extend(_parts(tensor, address))
        else:
            odd.append(tensor)
    return parts, small, odd


def _far(capture: Capture, tensor: Tensor) -> Far | None:
    """Where a storage lies that is on a CUDA device."""
    obj = capture.storages[tensor.name]
    if not tensor.nbytes or not isinstance(obj, torch.UntypedStorage) or not obj.is_cuda:
        return None
    return Far(obj.device.index, obj.data_ptr(), tensor)


def _set_aside(far: list[Far]) -> Clones | None:
    try:
        return Clones(far)
    except DeviceError:
        return None


def _bring(aside: Clones, writer: SegmentWriter, arrivals: Arrivals) -> None:
    """Fetch what was set aside. Raises OSError."""
    try:
        fetching.fetch(aside.pieces, writer.room, lambda piece: arrivals.came(piece.offset))
    finally:
        aside.close()
    writer.room.ready = max(writer.room.ready, writer.data_nbytes)


def _bring_now(
    capture: Capture, far: list[Far], pieces: list[fetching.Piece], room: Room, arrivals: Arrivals
) -> None:
    """Fetch from where the program has it, while training stands still. Raises OSError (ENOSPC).

    What the program had given its devices to do is done (active.finish).
    """
    try:
        fetching.fetch(pieces, room, lambda piece: arrivals.came(piece.offset))
    except DeviceError:
        for each in far:
            _copy_odd(capture.storages[each.tensor.name], each.tensor, room)


def _parts(tensor: Tensor, address: int) -> Iterator[Part]:
    """Cut where a region ends."""
    at, end = tensor.offset, tensor.offset + tensor.nbytes
    while at < end:
        count = min(end, at - at % REGION + REGION) - at
        yield at, address + at - tensor.offset, count
        at += count


def _digests(capture: Capture, far: list[Far]) -> Digests:
    """Hashes of what lies on devices, by offset: reading it there costs far less than bringing it here.

    None where hashing would show in the program's own figures of its memory, or finds none.
    """
    if not far or not digesting.fits({each.device for each in far}):
        return {}
    try:
        found = digesting.digest_all([capture.storages[each.tensor.name] for each in far])
    except torch.cuda.OutOfMemoryError:
        return {}
    return {each.tensor.offset: digest for each, digest in zip(far, found, strict=True)}


def address_of(obj: Any) -> int:
    """Where the bytes lie in this process's memory, one behind the other; 0 if they don't."""
    if isinstance(obj, torch.UntypedStorage):
        return int(obj.data_ptr()) if obj.device.type == "cpu" else 0
    if isinstance(obj, Pool) or not (obj.flags.c_contiguous or obj.flags.f_contiguous):
        return 0
    return int(obj.__array_interface__["data"][0])


def _copy_odd(obj: Any, tensor: Tensor, room: Room) -> None:
    """What lies scattered, or on some other device. Raises OSError (ENOSPC)."""
    room.populate(tensor.offset, tensor.offset + tensor.nbytes)
    with room.view() as view:
        if isinstance(obj, torch.UntypedStorage):
            place = torch.frombuffer(view, dtype=torch.uint8, count=tensor.nbytes, offset=tensor.offset)
            source = torch.empty(0, dtype=torch.uint8, device=obj.device).set_(obj)
            place.copy_(source)
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

    for number, lock in enumerate(locks):
        lock.acquire()
        try:
            threads.start(help_out, lock)
        except RuntimeError:  # there may be no more threads: those that there are do it
            del locks[number:]
            break
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
            arrivals.came(offset)
    except OSError as error:
        failed.append(error)


def _copy_changed(target: int, source: int, nbytes: int) -> None:
    """Copy from the first piece on that differs."""
    for start in range(0, nbytes, PIECE):
        if _memcmp(target + start, source + start, min(PIECE, nbytes - start)):
            ctypes.memmove(target + start, source + start, nbytes - start)
            return

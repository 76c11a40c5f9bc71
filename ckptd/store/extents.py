"""Writes much data from memory to a file as fast as the disk takes it: several threads, past the page cache.

O_DIRECT wants addresses, offsets and lengths in whole blocks (open(2)). What lies in memory as it is to lie in the
file is written from where it is; the rest goes through buffers of whole blocks.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

BLOCK = 4096
PART = 8 << 20
"""Bytes of one write."""
THREADS = 4
"""Writes that are under way at a time."""
URGENT = 8
"""So many where training doesn't need the processors meanwhile: with 4 a disk of 3 GB/s took 6 % longer."""
Step = Callable[[int], None]
PROBE = 64 << 20
"""Bytes that are written each way to see which is faster on a disk."""
ViewOf = Callable[[int, int], memoryview]
"""The bytes of memory from an offset on, so many."""


_past_cache: dict[int, bool] = {}
"""By device: whether it is faster to write past the page cache. Measured once, with what has to be written anyway."""


class Extent(NamedTuple):
    """Bytes of memory that belong to a place of the file."""

    at: int
    """Bytes from the start of the file; the first one's is a multiple of BLOCK."""
    offset: int
    """Bytes from the start of the memory, which is at a multiple of BLOCK."""
    nbytes: int


def merge(extents: Sequence[Extent]) -> list[Extent]:
    """The same with neighbours joined. They must be in the order of the file, without holes."""
    merged: list[Extent] = []
    for each in extents:
        last = merged[-1] if merged else None
        if last is not None and (last.at + last.nbytes, last.offset + last.nbytes) == (each.at, each.offset):
            merged[-1] = Extent(last.at, last.offset, last.nbytes + each.nbytes)
        elif each.nbytes:
            merged.append(each)
    return merged


def open_direct(fd: int) -> int | None:
    """The same file once more, for writing past the page cache; None where the file system can't."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return None


def write_fast(
    fd: int,
    view_of: ViewOf,
    extents: Sequence[Extent],
    step: Step,
    *,
    urgent: bool = False,
    sparing: Callable[[], bool] = lambda: False,
) -> None:
    """Write all of them to a file that is open for writing, in the faster of two ways. As write_extents.

    ``urgent``: with several threads, and without finding out which that is. Else with one, as the job that is being
    saved trains on, and needs the memory's bandwidth. ``sparing``: whether it should be one for now all the same.
    """
    device = os.fstat(fd).st_dev
    direct = open_direct(fd)
    if direct is None:
        write_extents(fd, view_of, extents, step, sparing=sparing)
        return
    every, threads = extents, URGENT if urgent else 1
    try:
        if not urgent and device not in _past_cache and sum(each.nbytes for each in extents) >= 4 * PROBE:
            first, extents = _split(extents, PROBE)
            second, extents = _split(extents, PROBE)
            past = _pace(lambda: write_extents(direct, view_of, first, step, threads))
            through = _pace(lambda: write_extents(fd, view_of, second, step, threads), fd)
            _past_cache[device] = past <= through
        faster = direct if _past_cache.get(device, True) else fd
        write_extents(faster, view_of, extents, step, threads, sparing)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _past_cache[device] = False  # a file system that opens it so, but does not write so
        write_extents(fd, view_of, every, step)
    finally:
        os.close(direct)


def _pace(work: Callable[[], None], sync: int = -1) -> float:
    """Seconds that it takes, until it is on the disk."""
    began = time.monotonic()
    work()
    if sync >= 0:
        os.fdatasync(sync)
    return time.monotonic() - began


def _split(extents: Sequence[Extent], nbytes: int) -> tuple[list[Extent], list[Extent]]:
    """Cut behind so many bytes, a multiple of BLOCK."""
    first: list[Extent] = []
    rest = list(extents)
    while rest and nbytes:
        each = rest.pop(0)
        count = min(each.nbytes, nbytes)
        first.append(Extent(each.at, each.offset, count))
        if count < each.nbytes:
            rest.insert(0, Extent(each.at + count, each.offset + count, each.nbytes - count))
        nbytes -= count
    return first, rest


def write_extents(
    fd: int,
    view_of: ViewOf,
    extents: Sequence[Extent],
    step: Step,
    threads: int = THREADS,
    sparing: Callable[[], bool] = lambda: False,
) -> None:
    """Write all of them to ``fd``, with so many threads (one while ``sparing``). The last block is filled with zeros.

    Raises OSError, and what ``step`` raises; ``step`` is called on several threads with the bytes written.
    """
    work = _parts(merge(extents))
    lock = allocate_lock()
    failed: list[BaseException] = []
    helpers: list[LockType] = []

    def write_some(alone: bool) -> None:
        buffer = mmap.mmap(-1, PART)
        try:
            while not failed:
                # Asked between two parts: who waits for that would take time from others.
                if alone and not sparing():
                    alone = False
                    call_others()
                with lock:
                    part = next(work, None)
                if part is None:
                    return
                done = _write(fd, view_of, part, buffer)
                with lock:
                    step(done)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            failed.append(error)
        finally:
            buffer.close()

    def call_others() -> None:
        # Threads that the threading module knows nothing of: a program that this runs in counts and names its own.
        for _ in range(threads - 1):
            over = allocate_lock()
            over.acquire()
            try:
                start_new_thread(help_out, (over,))
            except RuntimeError:  # there may be no more threads: those that there are do it
                return
            helpers.append(over)

    def help_out(over: LockType) -> None:
        try:
            write_some(alone=False)
        finally:
            over.release()

    write_some(alone=True)
    for over in helpers:
        over.acquire()
    if failed:
        raise failed[0]


def _parts(extents: Sequence[Extent]) -> Iterator[list[Extent]]:
    """What belongs into one write each: PART bytes of the file, but for the last."""
    part: list[Extent] = []
    room = PART
    for each in extents:
        at, offset, left = each
        while left:
            count = min(left, room)
            part.append(Extent(at, offset, count))
            at, offset, left, room = at + count, offset + count, left - count, room - count
            if not room:
                yield part
                part, room = [], PART
    if part:
        yield part


def _write(fd: int, view_of: ViewOf, part: list[Extent], buffer: mmap.mmap) -> int:
    begin = part[0].at
    size = sum(each.nbytes for each in part)
    whole = size + -size % BLOCK
    first = part[0]
    if len(part) == 1 and first.offset % BLOCK == 0 and whole == size:
        with view_of(first.offset, size) as source:
            _write_all(fd, source, begin)
        return size
    for each in part:
        with view_of(each.offset, each.nbytes) as source:
            buffer[each.at - begin : each.at - begin + each.nbytes] = source
    buffer[size:whole] = bytes(whole - size)
    with memoryview(buffer) as view, view[:whole] as filled:
        _write_all(fd, filled, begin)
    return size


def _write_all(fd: int, view: memoryview, at: int) -> None:
    done = 0
    while done < view.nbytes:
        with view[done:] as rest:
            done += os.pwrite(fd, rest, at + done)
        if done % BLOCK and done < view.nbytes:
            done -= done % BLOCK  # a short write: go on at a whole block

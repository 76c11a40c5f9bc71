"""What a checkpoint writes of its storages, and what it links."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ckptd.memory.segment import ITEM_BYTES, Tensor
from ckptd.store import compress, disk, hashing
from ckptd.store.extents import Extent, write_fast
from ckptd.store.known import Known, identity
from ckptd.store.manifest import FileEntry
from ckptd.store.storages import ZSTD, Stored, key_of
from ckptd.store.tensorfile import make_head

CHUNK = 4 << 20
"""Bytes hashed and written at a time."""
HASHERS = 4
"""Threads that hash where it is urgent, if there is much of it and as many processors."""
MUCH = 16 << 20
"""Bytes from which on several threads and writes past the page cache are worth it."""
Step = Callable[[int], None]
"""Called with the bytes done since the last call; raises if the caller gives up."""


@dataclass(frozen=True)
class Item:
    """A storage that is to be written."""

    key: str
    tensor: Tensor
    view: memoryview


@dataclass
class Plan:
    """Which files a checkpoint will have, and which of them are new."""

    algorithm: str
    data: memoryview
    """All storages, as they lie in the segment."""
    stored: list[Stored] = field(default_factory=list)
    linked: list[FileEntry] = field(default_factory=list)
    new: dict[str, list[Item]] = field(default_factory=dict)
    """Name of a tensor file to what goes into it."""

    def release(self) -> None:
        """Let the segment's memory go."""
        for items in self.new.values():
            for item in items:
                item.view.release()


def first_file(ident: str) -> str:
    """The name of the tensor file of what a checkpoint is the first to have."""
    return f"tensors-{ident}.safetensors"


def make_plan(
    data: memoryview,
    tensors: Sequence[Tensor],
    ident: str,
    work: Path,
    known: Known,
    algorithm: str,
    step: Step,
    hurried: Callable[[], bool],
    written: Mapping[str, str],
) -> Plan:
    """Hash all storages, and link into ``work`` what is there already.

    ``data`` holds the bytes of all ``tensors``; ``ident`` is the checkpoint's id. ``written``: hashes, by name, of
    the storages that are in its first file already. Raises what ``step`` raises.
    """
    views = {
        tensor.name: data[tensor.offset : tensor.offset + tensor.nbytes]
        for tensor in tensors
        if tensor.name not in written
    }
    try:
        found = _keys(list(views.values()), algorithm, step, HASHERS if hurried() else 1)
        keys = dict(zip(views, found, strict=True))
        keys |= {
            each.name: key_of(written[each.name], each.nbytes) for each in tensors if each.name in written
        }
        where = {keys[name]: first_file(ident) for name in written}
        return _plan(data, views, keys, tensors, ident, work, known, algorithm, hurried, where)
    except BaseException:
        for view in views.values():
            view.release()
        raise


def _keys(views: list[memoryview], algorithm: str, step: Step, most: int) -> list[str]:
    """By what the bytes of each are known, with so many threads at most. Raises what ``step`` raises."""

    def key(view: memoryview) -> str:
        return key_of(digest(view, algorithm, step), view.nbytes)

    big = [number for number, view in enumerate(views) if view.nbytes >= CHUNK]
    threads = min(most, len(os.sched_getaffinity(0)), len(big))
    if threads < 2:
        return [key(view) for view in views]
    from concurrent.futures import ThreadPoolExecutor  # here: most checkpoints of a short job are small

    with ThreadPoolExecutor(threads) as pool:
        found = dict(zip(big, pool.map(lambda number: key(views[number]), big), strict=True))
        return [found[number] if number in found else key(view) for number, view in enumerate(views)]


def _plan(
    data: memoryview,
    views: dict[str, memoryview],
    keys: dict[str, str],
    tensors: Sequence[Tensor],
    ident: str,
    work: Path,
    known: Known,
    algorithm: str,
    hurried: Callable[[], bool],
    where: dict[str, str],
) -> Plan:
    """``views`` and ``keys``: by the name of a storage. ``where``: by key, in which file it is already."""
    first = "settled" if where else "tensors"  # the other name is taken
    items: dict[str, Item] = {}
    for tensor in tensors:
        key, view = keys[tensor.name], views.get(tensor.name)
        if view is None:
            continue
        if key in items or key in where:
            view.release()
        else:
            items[key] = Item(key, tensor, view)
    plan = Plan(algorithm, data)
    for name, provided in known.usable(items, algorithm, hurried).items():
        if _link(known, name, work):
            plan.linked.append(known.packs[name].entry)
            where.update((key, name) for key in provided)
    settled = {key for pack in known.packs.values() for key in pack.sizes}
    for key, item in items.items():
        if key in where:
            item.view.release()
            continue
        name = where[key] = f"{'settled' if key in settled else first}-{ident}.safetensors"
        plan.new.setdefault(name, []).append(item)
    plan.stored = [
        Stored(
            tensor.name,
            tensor.dtype,
            tensor.nbytes,
            keys[tensor.name].partition("-")[0],
            where[keys[tensor.name]],
        )
        for tensor in tensors
    ]
    return plan


def digest(view: memoryview, algorithm: str, step: Step) -> str:
    """The hash of some bytes, hex."""
    hasher = hashing.hasher(algorithm)
    if view.nbytes <= CHUNK:
        step(0)
        hasher.update(view)
        return hasher.hexdigest()
    for start in range(0, view.nbytes, CHUNK):
        step(0)
        with view[start : start + CHUNK] as chunk:
            hasher.update(chunk)
    return hasher.hexdigest()


def _link(known: Known, name: str, work: Path) -> bool:
    """Give a known file a name in the new checkpoint; False where that can't be done."""
    assert known.path is not None
    link = work / name
    try:
        os.link(known.path / name, link, follow_symlinks=False)
    except OSError:
        return False  # its checkpoint was removed, it has too many links, or the file system knows none
    with suppress(OSError):
        if identity(link) == known.packs[name].inode:
            return True
    link.unlink(missing_ok=True)
    return False


class PackFile:
    """A tensor file that is to be written."""

    def __init__(self, name: str, items: Sequence[Item], *, squeeze: bool) -> None:
        """``squeeze``: compress what gets smaller. Raises ValueError for what such a file can't hold."""
        self.name = name
        small = {item.key for item in items if squeeze and compress.worthwhile(item.view)}
        # Compressed ones are of no element size: behind all others, so that those are aligned.
        self._items = sorted(items, key=lambda item: (item.key in small, -ITEM_BYTES[item.tensor.dtype]))
        self._small = small
        offset, tensors = 0, []
        for item in self._items:
            tensors.append(self._entry(item, offset, item.view.nbytes))
            offset += tensors[-1].nbytes
        self._expected = make_head(tensors)
        self._head = len(self._expected)
        self.room = self._head + offset
        """Bytes that it takes at most."""

    def _entry(self, item: Item, offset: int, nbytes: int) -> Tensor:
        if item.key in self._small:
            bound = nbytes + nbytes // 128 + 1024  # zstd's own bound, and some
            return Tensor(item.key + ZSTD, "U8", bound, offset)
        return Tensor(item.key, item.tensor.dtype, nbytes, offset)

    def write(
        self, fd: int, algorithm: str, step: Step, data: memoryview, *, urgent: bool = False
    ) -> FileEntry:
        """Write it to an empty file; the items lie in ``data``. Raises OSError, and what ``step`` raises."""
        direct = self._write_direct(fd, step, data, urgent)
        os.lseek(fd, self._head + direct, os.SEEK_SET)
        offset = 0
        tensors: list[Tensor] = []
        for item in self._items:
            if offset < direct:
                tensors.append(self._entry(item, offset, item.view.nbytes))
            elif item.key in self._small:
                frame = compress.squeeze(item.view)
                tensors.append(Tensor(item.key + ZSTD, "U8", len(frame), offset))
                disk.write_all(fd, frame)
                step(item.view.nbytes)
            else:
                tensors.append(Tensor(item.key, item.tensor.dtype, item.view.nbytes, offset))
                write_view(fd, item.view, step)
            offset += tensors[-1].nbytes
        head = make_head(tensors, self._head) if self._small else self._expected
        os.lseek(fd, 0, os.SEEK_SET)
        disk.write_all(fd, head)
        step(len(head))
        os.ftruncate(fd, len(head) + offset)
        hasher = hashing.hasher(algorithm)
        hasher.update(head)
        return FileEntry(self.name, len(head) + offset, hashing.written(algorithm, hasher), len(head))

    def _write_direct(self, fd: int, step: Step, data: memoryview, urgent: bool) -> int:
        """Write the items that are as they are in memory with several threads, if that is worth it; their bytes."""
        extents, at = [], self._head
        for item in self._items:
            if item.key in self._small:
                break
            extents.append(Extent(at, item.tensor.offset, item.view.nbytes))
            at += item.view.nbytes
        if at - self._head < MUCH:
            return 0
        write_fast(fd, lambda at, nbytes: data[at : at + nbytes], extents, step, urgent=urgent)
        return at - self._head


def write_view(fd: int, view: memoryview, step: Step) -> None:
    """Write bytes in chunks. Raises OSError, and what ``step`` raises."""
    for start in range(0, view.nbytes, CHUNK):
        with view[start : start + CHUNK] as chunk:
            disk.write_all(fd, chunk)
            step(chunk.nbytes)

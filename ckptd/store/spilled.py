"""Storages that a process had to write to the disk itself, as there was no memory for a copy: see docs/format.md."""

from __future__ import annotations

import os
from pathlib import Path

from ckptd.memory.segment import Spill, Tensor
from ckptd.store import disk, hashing
from ckptd.store.manifest import FileEntry
from ckptd.store.packing import Plan, first_file
from ckptd.store.storages import Stored, key_of
from ckptd.store.tensorfile import ALIGNMENT, MAX_HEAD_BYTES, make_head

FOLDER = "segments"
"""Where they lie in a job's folder."""
DIGEST = "0" * 32
"""As long as any hash that is written with."""
ENTRY = '"":{"dtype":"F8_E4M3","shape":[],"data_offsets":[,]},'
"""What an entry has beside its name and four numbers."""
HEAD = 256
"""Bytes of what else is in a head."""


def name_entries(tensors: list[Tensor], digests: list[str]) -> list[Tensor]:
    """The storages as the head of a tensor file calls them. What is there twice has a second name of its own."""
    seen: dict[str, int] = {}
    found = []
    for tensor, digest in zip(tensors, digests, strict=True):
        key = key_of(digest, tensor.nbytes)
        count = seen[key] = seen.get(key, 0) + 1
        name = key if count == 1 else f"{key}~{count}"
        found.append(Tensor(name, tensor.dtype, tensor.nbytes, tensor.offset))
    return found


def head_room(tensors: list[Tensor]) -> int:
    """Bytes that the head takes at most, whatever the hashes will be. Raises ValueError if there are too many."""
    digits = len(str(sum(tensor.nbytes for tensor in tensors)))
    longest = key_of(DIGEST, 0) + "~" + str(2 * len(tensors)) + ENTRY
    room = HEAD + len(tensors) * (len(longest) + 4 * digits)
    if room > MAX_HEAD_BYTES:
        raise ValueError(f"{len(tensors)} tensors are more than one file holds")
    return room + -room % ALIGNMENT


def take_spilled(tensors: list[Tensor], spill: Spill, ident: str, work: Path) -> tuple[str, Plan, FileEntry]:
    """Make the file the tensor file of the checkpoint ``ident`` in the folder ``work``: (its name, plan, entry).

    Raises OSError, and ValueError where the file is not one that the job's process could have written.
    """
    source = Path(spill.file)
    if source.parent != work.parent.parent / FOLDER:
        raise ValueError(f"{source} is not in the job's own folder")
    name = first_file(ident)
    head = make_head(name_entries(tensors, spill.digests), spill.start)
    size = sum(tensor.nbytes for tensor in tensors)
    if len(head) != spill.start:
        raise ValueError(f"the head of {source} needs {len(head)} bytes, {spill.start} are free")
    fd = os.open(source, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size < spill.start + size:
            raise ValueError(f"{source} is too short")
        os.ftruncate(fd, spill.start + size)
        disk.write_all(fd, head)
        os.fsync(fd)
    finally:
        os.close(fd)
    source.rename(work / name)
    stored = [
        Stored(tensor.name, tensor.dtype, tensor.nbytes, digest, name)
        for tensor, digest in zip(tensors, spill.digests, strict=True)
    ]
    hasher = hashing.hasher(spill.algorithm)
    hasher.update(head)
    entry = FileEntry(name, len(head) + size, hashing.written(spill.algorithm, hasher), len(head))
    return name, Plan(spill.algorithm, memoryview(b""), stored), entry

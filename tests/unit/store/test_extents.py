"""Writes past the page cache: what lies in the file is what lay in memory, wherever it lay."""

from __future__ import annotations

import errno
import mmap
import os
import random
from pathlib import Path
from typing import Any

import pytest

from ckptd.store import extents
from ckptd.store.extents import BLOCK, Extent, merge, open_direct, write_extents


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("kind", ["as it lies", "scattered", "odd end"])
def test_the_file_is_what_lay_in_memory(tmp_path: Path, monkeypatch, kind: str, direct: bool) -> None:
    monkeypatch.setattr(extents, "PART", 16 * BLOCK)
    data = mmap.mmap(-1, 100 * BLOCK)
    data[:] = random.randbytes(len(data))
    parts: list[Extent] = []
    at = BLOCK
    places = list(range(0, len(data), 1000)) if kind == "scattered" else [0]
    random.shuffle(places)
    for place in places:
        size = (
            min(1000, len(data) - place)
            if kind == "scattered"
            else len(data) - (5 if kind == "odd end" else 0)
        )
        parts.append(Extent(at, place, size))
        at += size
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    past = open_direct(fd) if direct else None
    done: list[int] = []
    write_extents(fd if past is None else past, lambda a, n: memoryview(data)[a : a + n], parts, done.append)
    written = os.pread(fd, 1 << 24, 0)
    expected = b"".join(data[each.offset : each.offset + each.nbytes] for each in parts)
    assert written[BLOCK : BLOCK + len(expected)] == expected
    assert not any(written[BLOCK + len(expected) :])
    assert sum(done) == len(expected)
    for each in (fd, past):
        if each is not None:
            os.close(each)


def test_neighbours_are_joined() -> None:
    assert merge([Extent(0, 0, 5), Extent(5, 5, 7), Extent(12, 99, 1), Extent(13, 100, 0)]) == [
        Extent(0, 0, 12),
        Extent(12, 99, 1),
    ]


def test_an_error_of_one_write_ends_them_all(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDONLY | os.O_CREAT)
    with pytest.raises(OSError, match="Bad file"):
        write_extents(
            fd, lambda a, n: memoryview(bytes(n)), [Extent(0, 0, 10 * extents.PART)], lambda n: None
        )
    os.close(fd)


def test_both_ways_are_tried_once_and_the_file_is_right(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(extents, "PROBE", 20 * BLOCK)
    monkeypatch.setattr(extents, "PART", 8 * BLOCK)
    monkeypatch.setattr(extents, "_past_cache", {})
    data = mmap.mmap(-1, 100 * BLOCK)
    data[:] = random.randbytes(len(data))
    parts = [Extent(at, at, min(3000, len(data) - at)) for at in range(0, len(data), 3000)]
    for _ in range(2):
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        extents.write_fast(fd, lambda a, n: memoryview(data)[a : a + n], parts, lambda n: None)
        assert os.pread(fd, 1 << 24, 0) == data[:]
        os.close(fd)
    assert list(extents._past_cache) in ([os.stat(tmp_path).st_dev], [])


def test_a_file_system_that_opens_but_does_not_write_past_the_cache_gets_all_of_it(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(extents, "PROBE", 4 * BLOCK)
    monkeypatch.setattr(extents, "_past_cache", {})
    data = mmap.mmap(-1, 40 * BLOCK)
    data[:] = random.randbytes(len(data))
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    write = extents.write_extents

    def refusing(target: int, *rest: Any) -> None:
        if target != fd:
            raise OSError(errno.EINVAL, "Invalid argument")
        write(target, *rest)

    monkeypatch.setattr(extents, "write_extents", refusing)
    monkeypatch.setattr(extents, "open_direct", os.dup)
    extents.write_fast(
        fd, lambda a, n: memoryview(data)[a : a + n], [Extent(0, 0, len(data))], lambda n: None
    )
    assert os.pread(fd, 1 << 24, 0) == data[:]
    os.close(fd)

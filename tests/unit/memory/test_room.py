"""Rooms: they grow without losing what they hold, keep no descriptor, and are found gone when they are."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from ckptd.errors import DamagedError
from ckptd.memory.available import available
from ckptd.memory.room import PAGE, Room
from ckptd.memory.segment import Segment, SegmentWriter, arrange


def test_it_grows_keeps_what_it_holds_and_leaves_no_descriptor(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    room = Room(tmp_path / "a.seg")
    room.grow(1000)
    assert room.nbytes == PAGE
    with room.view() as view:
        view[:5] = b"hello"
    room.grow(5 * PAGE)
    room.populate(PAGE, 5 * PAGE)
    with room.view() as view:
        assert bytes(view[:5]) == b"hello"
        view[-1:] = b"!"
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert (tmp_path / "a.seg").read_bytes()[-1:] == b"!"
    assert (tmp_path / "a.seg").stat().st_mode & 0o777 == 0o600
    assert Room(tmp_path / "a.seg").nbytes == 5 * PAGE
    room.close()


def test_one_whose_name_was_taken_away_or_given_to_another_is_not_there(tmp_path: Path) -> None:
    room = Room(tmp_path / "a.seg")
    assert room.is_there()
    os.unlink(tmp_path / "a.seg")
    assert not room.is_there()
    kept = Room(tmp_path / "b.seg")
    os.replace(tmp_path / "b.seg", tmp_path / "c.seg")
    (tmp_path / "b.seg").write_bytes(b"")
    assert not kept.is_there()


def test_what_the_file_system_has_no_room_for_is_an_error_before_anything_is_touched(tmp_path: Path) -> None:
    room = Room(tmp_path / "a.seg")
    there = os.statvfs(tmp_path)
    with pytest.raises(OSError, match="no space") as caught:
        room.grow(there.f_bavail * there.f_frsize + (1 << 40))
    assert caught.value.errno == errno.ENOSPC
    assert room.nbytes == 0


def test_a_used_room_holds_no_segment_until_the_next_is_complete(tmp_path: Path) -> None:
    room = Room(tmp_path / "a.seg")
    for size, fill in ((5000, b"a"), (80_000, b"b"), (300, b"c")):
        writer = SegmentWriter(room, arrange([("s0", "U8", size)]), b"graph", {"step": size}, fill.decode())
        with pytest.raises(DamagedError):
            Segment(room.path)
        writer.put(0, fill * size)
        writer.finish()
        with Segment(room.path) as segment:
            assert (segment.index.dump, segment.index.facts) == (fill.decode(), {"step": size})
            with segment.data() as data, segment.graph() as graph:
                assert (bytes(data), bytes(graph)) == (fill * size, b"graph")


def test_memory_that_a_cgroup_does_not_leave_is_not_to_be_had(tmp_path: Path) -> None:
    def put(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    put("proc/meminfo", "MemTotal: 100 kB\nMemAvailable:  1000000 kB\n")
    assert available(tmp_path) == 1_000_000 * 1024
    put("proc/self/cgroup", "0::/a/b\n")
    put("sys/fs/cgroup/a/memory.max", "5000000\n")
    put("sys/fs/cgroup/a/memory.current", "3000000\n")
    put("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 500000\n")
    put("sys/fs/cgroup/a/b/memory.max", "max\n")
    assert available(tmp_path) == 2_500_000
    put("sys/fs/cgroup/a/b/memory.max", "1000\n")
    put("sys/fs/cgroup/a/b/memory.current", "2000\n")
    put("sys/fs/cgroup/a/b/memory.stat", "")
    assert available(tmp_path) == 0
    put("proc/self/cgroup", "12:pids:/x\n5:memory:/outside/docker\n")
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{1 << 63}\n")
    assert available(tmp_path) == 1_000_000 * 1024
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n")
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "8000\n")
    put("sys/fs/cgroup/memory/memory.stat", "inactive_file 50\n")
    assert available(tmp_path) == 1050


def test_a_program_that_closes_descriptors_it_does_not_know_loses_nothing(tmp_path: Path) -> None:
    room = Room(tmp_path / "a.seg")
    room.grow(PAGE)
    address = room.address()
    ctypes.memset(address, 7, PAGE)
    mine = os.open(tmp_path / "users", os.O_RDWR | os.O_CREAT)
    os.write(mine, b"theirs")
    room.grow(3 * PAGE)
    room.close()
    assert os.pread(mine, 10, 0) == b"theirs"
    os.close(mine)

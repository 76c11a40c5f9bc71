"""What there is room for: seen in trees of files, and judged."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ckptd.doctor.findings import LOSES, WARNS
from ckptd.doctor.place import AWS, Place
from ckptd.doctor.room import Room, filesystem, look_round
from ckptd.doctor.size import Size
from ckptd.doctor.space import LIMIT, READY_SHARE, READY_SPARE, fits, made_ready, space_findings
from ckptd_agent import rooms

GB = 10**9
MEMINFO = "MemTotal:       16000000 kB\nMemFree:  1 kB\nMemAvailable:   10000000 kB\n"
ROOM = Room(
    store=Path("/srv/ckptd"), folder=Path("/srv/ckptd"), kind="ext4", writable=True, free=100 * GB, total=200 * GB,
    inodes=10**6, shm_free=50 * GB, shm_total=50 * GB, available=80 * GB, memory_limit=None, file_limit=None,
    lock_limit=8 << 20,
)  # fmt: skip
SIZE = Size(10 * GB, "--size")
HERE = Place()
DOCKER = Place(container="/.dockerenv is there")
POD = Place(container="KUBERNETES_SERVICE_HOST is set", kubernetes=True)


def found(room=ROOM, size=SIZE, place=HERE, remote=False):
    return {each.what: each for each in space_findings(room, size, place, remote)}


# ---- seen ---------------------------------------------------------------------------------------


def test_memory_as_the_kernel_has_it(machine, tmp_path):
    room = look_round(machine({"/proc/meminfo": MEMINFO}), tmp_path)
    assert room.available == 10_000_000 * 1024
    assert room.memory_limit is None


def test_the_tightest_cgroup_counts_and_its_page_cache_does_not(machine, tmp_path):
    top = "/sys/fs/cgroup"
    files = {
        "/proc/meminfo": MEMINFO,
        "/proc/self/cgroup": "0::/a.slice/b.service\n",
        f"{top}/a.slice/memory.max": "4000000000\n",
        f"{top}/a.slice/memory.current": "1500000000\n",
        f"{top}/a.slice/memory.stat": "anon 5\ninactive_file 500000000\n",
        f"{top}/a.slice/b.service/memory.max": "max\n",
    }
    room = look_round(machine(files), tmp_path)
    assert (room.memory_limit, room.available) == (4 * GB, 3 * GB)


def test_version_1_of_cgroups(machine, tmp_path):
    top = "/sys/fs/cgroup/memory"
    files = {
        "/proc/meminfo": MEMINFO,
        "/proc/self/cgroup": "4:cpu,memory:/job\n0::/\n",
        f"{top}/job/memory.limit_in_bytes": "2000000000\n",
        f"{top}/job/memory.usage_in_bytes": "500000000\n",
        f"{top}/memory.limit_in_bytes": "9223372036854771712\n",
    }
    room = look_round(machine(files), tmp_path)
    assert (room.memory_limit, room.available) == (2 * GB, 1_500_000_000)


def test_a_store_that_is_yet_to_be_made_is_looked_for_above(machine, tmp_path):
    room = look_round(machine(), tmp_path / "not" / "there")
    assert (room.store, room.folder) == (tmp_path / "not" / "there", tmp_path)
    assert room.free == pytest.approx(os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize, rel=0.1)
    assert not (tmp_path / "not").exists()
    assert room.shm_free is None


def test_the_file_system_of_a_folder(machine, tmp_path):
    inner = tmp_path / "a b"
    inner.mkdir()
    escaped = str(inner).replace(" ", "\\040")
    text = (
        "22 1 0:20 / / rw - overlay overlay rw\n"
        f"23 22 0:21 / {escaped} rw,relatime shared:1 - nfs4 host:/x rw\n"
        f"24 22 0:22 / {tmp_path}/a rw - tmpfs tmpfs rw\n"
    )
    there = machine({"/proc/self/mountinfo": text})
    assert filesystem(there, inner) == "nfs4"
    assert filesystem(there, tmp_path) == "overlay"


# ---- judged -------------------------------------------------------------------------------------


def test_where_there_is_room_nothing_is_said():
    assert found() == {}
    assert found(size=None) == {}


def test_a_store_without_room_for_one():
    assert found(replace(ROOM, free=9 * GB))["store's room"].severity == LOSES


def test_a_store_without_room_for_all_that_stay():
    assert found(replace(ROOM, free=39 * GB))["store's room"].severity == WARNS
    assert found(replace(ROOM, free=41 * GB)) == {}
    # Those that are there take no more room.
    assert found(replace(ROOM, free=11 * GB), replace(SIZE, checkpoints=3)) == {}


def test_a_store_that_cant_be_written_and_one_without_inodes():
    assert found(replace(ROOM, writable=False))["store"].severity == LOSES
    assert found(replace(ROOM, inodes=0))["store"].severity == LOSES
    assert found(replace(ROOM, inodes=None)) == {}


@pytest.mark.parametrize(
    ("kind", "place", "severity"),
    [
        ("tmpfs", HERE, LOSES), ("overlay", HERE, ""), ("overlay", DOCKER, WARNS), ("ext4", DOCKER, ""),
        ("overlay", POD, LOSES), ("ext4", POD, WARNS), ("nfs4", POD, ""), ("fuse.s3fs", POD, ""),
        ("ext4", Place(cloud=AWS), WARNS), ("lustre", Place(cloud=AWS), ""),
    ],
)  # fmt: skip
def test_whether_the_stores_disk_outlives_what_runs_here(kind, place, severity):
    room = replace(ROOM, kind=kind)
    said = found(room, place=place)
    assert (said["store's disk"].severity if said else "") == severity
    assert "store's disk" not in found(room, place=place, remote=True)


def test_a_small_shm_and_the_line_that_mends_it():
    small = replace(ROOM, shm_free=64 << 20, shm_total=64 << 20)
    assert found(small)["/dev/shm"].mend == "mount -o remount,size=19G /dev/shm"
    assert found(small, place=DOCKER)["/dev/shm"].mend == "docker run --shm-size=19g"
    assert "emptyDir: {medium: Memory, sizeLimit: 19Gi}" in found(small, place=POD)["/dev/shm"].mend
    assert found(small)["/dev/shm"].severity == WARNS
    assert "goes to the disk at once" in found(small)["/dev/shm"].text
    assert found(small, size=None)["/dev/shm"].severity == WARNS
    assert found(small, Size(10**6, "--size")) == {}


def test_no_shm_at_all():
    assert found(replace(ROOM, shm_free=None, shm_total=None))["/dev/shm"].severity == WARNS


def test_memory_for_the_copy_and_for_both():
    little = found(replace(ROOM, available=12 * GB))["memory"]  # a dump takes four fifths of it at most
    assert little.severity == WARNS
    assert "goes to the disk at once" in little.text
    limited = replace(ROOM, available=15 * GB, memory_limit=16 * GB)
    assert found(limited)["memory"].severity == WARNS
    assert "MemoryMax=30G" in found(limited)["memory"].mend
    assert found(replace(ROOM, available=21 * GB)) == {}


@pytest.mark.parametrize(
    ("changes", "size", "there"),
    [
        ({}, SIZE, (True, True)), ({"shm_free": 9 * GB}, SIZE, (False, True)),
        ({"available": 12 * GB}, SIZE, (False, True)), ({"available": 13 * GB}, SIZE, (True, True)),
        ({"free": 9 * GB}, SIZE, (True, False)), ({"free": 9 * GB}, replace(SIZE, checkpoints=1), (True, True)),
        ({"writable": False}, SIZE, (True, False)), ({"shm_free": None, "free": 9 * GB}, SIZE, (False, False)),
    ],
)  # fmt: skip
def test_what_fits_where(changes, size, there):
    assert fits(replace(ROOM, **changes), size) == there


def test_what_is_made_ready_ahead_is_what_the_agent_does():
    assert (READY_SHARE, READY_SPARE, LIMIT) == (rooms.SHARE, rooms.SPARE, rooms.LIMIT)
    most = made_ready(replace(ROOM, available=30 * GB))
    assert most + READY_SPARE <= rooms.SHARE * (30 * GB - most)  # what is left beside the program's own
    assert made_ready(replace(ROOM, available=0)) == 0


def test_a_limit_on_files():
    assert found(replace(ROOM, file_limit=9 * GB))["ulimit -f"].mend == "ulimit -f unlimited"
    assert found(replace(ROOM, file_limit=11 * GB)) == {}

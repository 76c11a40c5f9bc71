"""A writer that is killed, and a disk that is full: what is listed is whole, what was committed stays."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time

import pytest
from store_fixtures.making import make_segment

from ckptd.store.reader import list_checkpoints, newest_valid
from ckptd.store.sweep import sweep
from ckptd.store.verify import verify_checkpoint

ROUNDS = 20

# Commits checkpoint after checkpoint, removes old ones, and says of each when it is durable.
WRITE_ON = """
import sys
from pathlib import Path
from store_fixtures.making import *
from ckptd.store import packing
from ckptd.store.known import Known
from ckptd.store.removal import retain
from ckptd.store.retention import Policy
packing.CHUNK = 4096
way = Way(Known())
folder, segment, step = JobFolder(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
while True:
    step += 1
    path = make_checkpoint(folder, segment, step, way)
    print(path.name, flush=True)
    if step % 3 == 0:
        way.known.forget()  # so that there is something to write, too
    retain(folder, Policy(last=3), path, 0)
"""


def test_a_writer_killed_at_any_moment(start, folder, tmp_path, seeded: random.Random):
    segment = make_segment(
        tmp_path / "large", [("a", "F32", 1 << 20), ("b", "U8", 12345)], graph=bytes(70_000)
    )
    newest, step, left, kept, pace = "", 0, 0, 0, 0.02
    for _ in range(ROUNDS):
        process = start(WRITE_ON, folder.path, segment, step)
        assert process.stdout.readline() == "ready\n"
        begun = time.monotonic()
        said = [process.stdout.readline().strip() for _ in range(seeded.randrange(4))]
        if said:
            pace = (time.monotonic() - begun) / len(said)
        # Somewhere in the next commit or the removals around it. It waits for nothing: this is the moment.
        time.sleep(seeded.uniform(0.0, 1.2 * pace))
        process.kill()
        said += process.stdout.read().split()
        assert process.wait() == -9, process.stderr.read()
        newest = said[-1] if said else newest
        left += len(list(folder.work.iterdir())) if folder.work.exists() else 0

        listed = list_checkpoints(folder)
        for item in listed:
            verify_checkpoint(item.path)
        names = [item.path.name for item in listed]
        assert not newest or newest in names
        found = newest_valid(folder)
        assert (found is None) == (names == [])
        if found is not None:
            assert (found.path.name, found.skipped) == (names[-1], [])
            step = found.manifest.step
        sweep(folder)
        assert not folder.work.exists() or list(folder.work.iterdir()) == []
        assert sorted(path.name for path in folder.checkpoints.iterdir()) == names
        # A kill between commit and removal leaves one more; so does the next, if nothing was removed before it.
        assert len(names) <= (4 if len(said) > 1 else max(kept, 3) + 1)
        kept = len(names)
    assert left > 0, "no kill hit a write"


FULL_DISK = """
import os, subprocess, sys
from pathlib import Path
from store_fixtures.making import *
from ckptd.errors import DumpFailedError, NoStoreError
from ckptd.store.reader import list_checkpoints, newest_valid
disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", disk], check=True)
small, large = Path(sys.argv[2]), Path(sys.argv[3])
folder = make_job(disk / "store")
kept = make_checkpoint(folder, small, 1)

def fails(segment):
    before = tree(disk), os.statvfs(disk).f_bfree
    try:
        make_checkpoint(folder, segment, 2)
    except DumpFailedError as error:
        print(error)
    else:
        raise AssertionError("no error")
    assert (tree(disk), os.statvfs(disk).f_bfree) == before
    assert newest_valid(folder).path == kept

fails(large)
filler = disk / "filler"
with filler.open("wb", buffering=0) as file:  # up to the last block: not even a folder's file fits
    os.posix_fallocate(file.fileno(), 0, os.fstatvfs(file.fileno()).f_bavail * 4096)
fails(small)
filler.unlink()
make_checkpoint(folder, small, 3)
assert [item.step for item in list_checkpoints(folder)] == [1, 3]

kept = newest_valid(folder).path
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
fails(small)
assert open_store(disk / "store", create=False).jobs() == [folder]
for wanted in (disk / "store", disk / "other"):
    try:
        open_store(wanted)
    except NoStoreError as error:
        print(error)
    else:
        raise AssertionError("no error")
"""


def can_mount() -> bool:
    """Whether a file system can be mounted here for one process and those it starts."""
    return (
        os.geteuid() == 0
        and shutil.which("unshare") is not None
        and subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        ).returncode
        == 0
    )


def test_a_full_and_a_read_only_disk(start, tmp_path):
    """On a real small file system, which goes with the process."""
    if not can_mount():
        pytest.skip("needs root and mount namespaces; test_writer has the same errors without")
    disk = tmp_path / "disk"
    disk.mkdir()
    small, large = make_segment(tmp_path / "small"), make_segment(tmp_path / "large", [("a", "U8", 4 << 20)])
    process = start(FULL_DISK, disk, small, large, before=("unshare", "-m"))
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    no_room, no_block, read_only, store, other = out.splitlines()
    assert (
        f"{disk}/store/jobs/0123abcd/checkpoints has no room left: the checkpoint needs 4.2 MB, " in no_room
    )
    assert no_room.endswith("MB free; make room or name another --store")
    assert "free; make room" in no_block
    assert "the file system is read-only; check it, or name another --store" in read_only
    assert store == f"store {disk}/store can't be written: name another with --store or CKPTD_STORE"
    assert f"store {disk}/other can't be used" in other
    assert "read-only" in other
    assert list(disk.iterdir()) == []

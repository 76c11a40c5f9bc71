"""Small files that are not whole yet: removed once their writer is gone, and not before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from store_fixtures.making import ROOT, make_checkpoint, make_job, make_segment

from ckptd.store import disk
from ckptd.store.layout import open_store
from ckptd.store.leftovers import leftovers, prune_job
from ckptd.store.pins import read_mark
from ckptd.store.sweep import sweep
from ckptd.store.verify import verify_checkpoint

# Stops in the middle of a pin, and goes on when it is told to.
PIN = """
import os, sys
from pathlib import Path
from ckptd.store import disk
from ckptd.store.pins import write_mark
from ckptd.store.retention import Mark
whole = disk.write_all
def half(fd, data):
    os.write(fd, data[:9])
    print("half", flush=True)
    sys.stdin.readline()
    whole(fd, data[9:])
disk.write_all = half
write_mark(Path(sys.argv[1]), Mark(pinned=True))
print("whole", flush=True)
"""


def test_a_part_stays_as_long_as_somebody_writes_it(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "store")
    path = make_checkpoint(folder, make_segment(tmp_path / "segment"), 1)
    for killed in (False, True):
        process = subprocess.Popen(
            [sys.executable, "-c", PIN, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "half\n"
            (part,) = folder.checkpoints.glob(".tmp-*")
            assert (sweep(folder), leftovers(folder), prune_job(folder)) == ([], [], [])
            if killed:
                process.kill()
            else:
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() == "whole\n"
        assert read_mark(path).pinned
        assert part.exists() is killed
    assert [left.path for left in leftovers(folder)] == [part]
    assert sweep(folder) == [part]
    assert [item.name for item in folder.checkpoints.iterdir()] == [path.name]


def test_a_store_that_was_begun_and_killed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    open_store(store)
    (store / ".tmp-ckptd-store.json-1-00000000").write_bytes(b'{"form')
    open_store(store)
    assert sorted(item.name for item in store.iterdir()) == ["ckptd-store.json", "jobs"]


def test_a_checkpoint_is_not_swept_away_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ckptd prune`` and the like, right after each step of a commit."""
    folder = make_job(tmp_path / "store")
    swept: list[Path] = []
    times: Counter[object] = Counter()
    for name in ("create_file", "sync_folder", "make_folder"):
        own = getattr(disk, name)

        def between(path: Path, *, own: Callable[[Path], object] = own) -> object:
            done = own(path)
            times[own, path] += 1
            if times[own, path] < 3:  # not each time: then it would never get any further
                swept.extend(left.path for left in prune_job(folder))
            return done

        monkeypatch.setattr(disk, name, between)
    path = make_checkpoint(folder, make_segment(tmp_path / "segment"), 1)
    verify_checkpoint(path)
    # Where there was a folder, or a table without a lock yet, it went, and was made again.
    assert len(swept) >= 2
    assert {each.parent for each in swept} == {folder.work}


def test_a_work_folder_that_is_swept_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by scripts/torture pair: between mkdir and chmod."""
    folder, own, left = make_job(tmp_path / "store"), Path.chmod, [3]

    def chmod(path: Path, mode: int) -> None:
        if path.parent == folder.work and left[0]:
            left[0] -= 1
            prune_job(folder)
        own(path, mode)

    monkeypatch.setattr(Path, "chmod", chmod)
    verify_checkpoint(make_checkpoint(folder, make_segment(tmp_path / "segment"), 1))
    assert left == [0]


def test_parts_of_all_small_files_go(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "store")
    for name in ("job.json", "index.jsonl", "remote.json"):
        (folder.path / f".tmp-{name}-1-00000000").write_bytes(b"half")
    assert [left.nbytes for left in leftovers(folder)] == [4, 4, 4]
    assert len(sweep(folder)) == 3
    assert leftovers(folder) == []

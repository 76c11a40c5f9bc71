"""One byte of a small checkpoint is another, or its end is missing: a resume takes an older one, or refuses."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_fixtures.making import JOB, make_checkpoint, make_job, make_segment

from ckptd.errors import DamagedError
from ckptd.store import index
from ckptd.store.draft import Way
from ckptd.store.job import JobRecord
from ckptd.store.known import Known
from ckptd.store.layout import JobFolder
from ckptd.store.pins import PIN, read_mark, write_mark
from ckptd.store.reader import newest_valid
from ckptd.store.retention import Mark

EVERY = int(os.environ.get("FLIP_EVERY", "29"))
"""Of so many bytes one is tried, another each time; of short files all. FLIP_EVERY=1 tries all."""
MARK = Mark(pinned=False, tags=("best", "paper"))


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    """Two checkpoints that share a tensor file; the newest has one of its own, and tags."""
    folder, way = make_job(tmp_path / "store"), Way(Known())
    make_checkpoint(folder, make_segment(tmp_path / "a", [("a", "U8", 40)], facts={}), 1, way)
    both = make_segment(tmp_path / "b", [("a", "U8", 40), ("b", "U8", 8)], facts={})
    write_mark(make_checkpoint(folder, both, 2, way), MARK)
    return folder


def places(length: int, chance: random.Random) -> range:
    """Where to try."""
    step = EVERY if length > 500 else 1
    return range(chance.randrange(step), length, step)


def files(job: JobFolder) -> Iterator[tuple[Path, bytes, bool]]:
    """Each file of the newest checkpoint, its bytes, and whether the older one has it too."""
    newest = max(job.checkpoints.iterdir())
    for file in sorted(newest.iterdir()):
        yield file, file.read_bytes(), file.stat().st_nlink > 1


def expect_older(job: JobFolder, file: Path, shared: bool) -> None:
    """What a resume makes of the damage; the sentence names the file."""
    if shared:
        with pytest.raises(DamagedError, match="all 2 checkpoints are damaged") as caught:
            newest_valid(job)
        assert file.name in str(caught.value)
        return
    found = newest_valid(job)
    assert found is not None
    assert found.manifest.step == 1
    ((path, why),) = found.skipped
    assert path == file.parent
    assert file.name in why


def test_a_number_that_has_become_too_large(job: JobFolder) -> None:
    """One byte of the time in a pin is an e: 1.8e9 with a fraction becomes infinity."""
    pin = max(job.checkpoints.iterdir()) / PIN
    whole = pin.read_bytes()
    dot = whole.index(b".", whole.index(b"since"))
    pin.write_bytes(whole[: dot + 1] + b"6e75959" + whole[whole.index(b",", dot) :])
    assert read_mark(pin.parent).pinned


def test_a_byte_that_is_another(job: JobFolder, seeded: random.Random) -> None:
    seen = set()
    for file, whole, shared in files(job):
        for place in places(len(whole), seeded):
            changed = bytearray(whole)
            changed[place] ^= seeded.randrange(1, 256)
            file.write_bytes(changed)
            if file.name == PIN:
                # Never less than was asked for: the same, or kept whatever the policy says.
                mark = read_mark(file.parent)
                assert mark.pinned or mark == MARK, changed
            else:
                expect_older(job, file, shared)
        file.write_bytes(whole)
        seen.add((file.suffix, shared))
    assert {(".json", False), (".msgpack", False), (".safetensors", False), (".safetensors", True)} <= seen
    found = newest_valid(job)
    assert found is not None
    assert found.manifest.step == 2


def test_an_end_that_is_missing(job: JobFolder, seeded: random.Random) -> None:
    for file, whole, shared in files(job):
        for length in places(len(whole), seeded):
            file.write_bytes(whole[:length])
            if file.name == PIN:
                # All but the last line feed is needed.
                assert read_mark(file.parent) == (MARK if length == len(whole) - 1 else Mark(pinned=True))
            else:
                expect_older(job, file, shared)
        file.write_bytes(whole)
    found = newest_valid(job)
    assert found is not None
    assert found.manifest.step == 2


RECORD = JobRecord(JOB, "train", ["python", "train.py"], "/train", 1.8e9, hashseed="7", extra={"step": 2})


def test_the_job_s_record(job: JobFolder, seeded: random.Random) -> None:
    job.save(RECORD)
    file = job.path / "job.json"
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(
            whole[:place] + bytes([whole[place] ^ seeded.randrange(1, 256)]) + whole[place + 1 :]
        )
        with pytest.raises(DamagedError, match=r"job\.json is damaged"):
            job.load()
    file.write_bytes(whole)
    assert job.load() == RECORD


def test_the_index_is_never_believed_to_be_what_it_is_not(job: JobFolder, seeded: random.Random) -> None:
    """A line of it that is another counts for nothing: the manifest is read."""
    file = job.path / index.INDEX
    wanted, whole = index.entries(job), file.read_bytes()
    assert len(wanted) == 2
    for place in range(seeded.randrange(3), len(whole), 3):
        file.write_bytes(
            whole[:place] + bytes([whole[place] ^ seeded.randrange(1, 256)]) + whole[place + 1 :]
        )
        assert index.entries(job) == wanted, place
    for length in range(seeded.randrange(3), len(whole), 3):
        file.write_bytes(whole[:length])
        assert index.entries(job) == wanted, length

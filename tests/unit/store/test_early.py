"""The tensor file that is written while its bytes are still being copied."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_fixtures.making import FACTS, GRAPH, make_checkpoint, make_job, make_manifest

from ckptd.memory.room import Room
from ckptd.memory.segment import REGION, Segment, SegmentWriter, arrange
from ckptd.store import early, extents
from ckptd.store.draft import Draft, Way
from ckptd.store.known import Known
from ckptd.store.layout import JobFolder
from ckptd.store.reader import OpenCheckpoint
from ckptd.store.verify import verify_checkpoint
from ckptd.store.writer import begin_early, write_checkpoint

MIB = 1 << 20
Sizes = list[tuple[str, str, int]]
SIZES: Sizes = [
    ("wide", "F64", 9 * MIB + 8),
    ("long", "F32", 3 * REGION + 4),
    ("odd", "U8", 4097),
    ("none", "F32", 0),
]


@pytest.fixture
def folder(tmp_path) -> JobFolder:
    return make_job(tmp_path / "store")


class Copy:
    """A copy into a segment, region by region, as the test wants it."""

    def __init__(self, path: Path, sizes: Sizes, contents: dict[str, bytes] | None = None) -> None:
        tensors = arrange(sizes)
        self.contents = {name: os.urandom(nbytes) for name, _, nbytes in sizes} | (contents or {})
        self.bytes = b"".join(self.contents[tensor.name] for tensor in tensors)
        self.path = path
        self.writer = SegmentWriter(Room(path), tensors, GRAPH, FACTS, "1-abc")

    def put(self, region: int) -> None:
        start = region * REGION
        self.writer.put(start, self.bytes[start : start + REGION])
        self.writer.arrived(region)

    def finish(self) -> None:
        for region in range(self.writer.regions):
            if not self.writer.room.view()[self.writer._graph_end + region]:
                self.put(region)
        self.writer.finish()


@pytest.fixture
def follow(folder) -> Iterator[Callable[..., Follower]]:
    begun: list[Follower] = []

    def begin(copy: Copy, known: Known | None = None) -> Follower:
        begun.append(Follower(folder, copy, Way(known or Known(), hurried=lambda: True)))
        return begun[-1]

    yield begin
    for each in begun:
        each.gone.set()
        each.thread.join(30)
        assert not each.thread.is_alive()


class Follower:
    """The writer's side, in a thread."""

    def __init__(self, folder: JobFolder, copy: Copy, way: Way) -> None:
        self.folder, self.copy, self.way = folder, copy, way
        self.gone = threading.Event()
        self.draft: Draft | None = None
        self.thread = threading.Thread(target=self._follow)
        self.thread.start()

    def _follow(self) -> None:
        with Segment(self.copy.path, copying=True) as segment:
            self.draft = begin_early(self.folder, segment, "00c0ffee", self.way, self.gone.is_set)

    def written(self) -> int:
        """Bytes of the tensor file that are on their way to the disk."""
        try:
            return (self.folder.work / "00c0ffee" / "tensors-00c0ffee.safetensors").stat().st_blocks
        except FileNotFoundError:
            return 0

    def end(self) -> Draft | None:
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.draft

    def commit(self, step: int) -> Path:
        draft = self.end()
        assert draft is not None
        with Segment(self.copy.path) as segment:
            return write_checkpoint(
                self.folder, segment, make_manifest(step, id="00c0ffee"), self.way, draft
            )[0]


def contents_of(path: Path) -> dict[str, bytes]:
    with OpenCheckpoint(path) as checkpoint:
        return {name: bytes(checkpoint.storage(name)) for name in checkpoint.storages}


def test_what_is_written_as_it_came_is_the_dump(folder, follow, tmp_path):
    copy = Copy(tmp_path / "a.seg", SIZES)
    follower = follow(copy)
    for region in (2, 0, 1):
        copy.put(region)
        time.sleep(0.02)  # nothing hangs on it: any order of the two sides must do
    assert follower.thread.is_alive()  # it waits for the rest
    copy.finish()
    path = follower.commit(7)
    verify_checkpoint(path)
    assert contents_of(path) == copy.contents
    assert not list(folder.work.iterdir())


def test_the_disk_begins_before_the_copy_ends(folder, follow, tmp_path, monkeypatch):
    seen: list[int] = []
    real = extents.write_fast

    def noted(fd, view_of, extents, step, **how):
        def count(nbytes: int) -> None:
            seen.append(nbytes)
            step(nbytes)

        real(fd, view_of, extents, count, **how)

    monkeypatch.setattr(early, "write_fast", noted)
    copy = Copy(tmp_path / "a.seg", SIZES)
    follower = follow(copy)
    copy.put(0)
    until = time.monotonic() + 30
    while not seen:
        assert time.monotonic() < until, "nothing was written before all was there"
        time.sleep(0.005)
    copy.finish()
    assert contents_of(follower.commit(1)) == copy.contents


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_a_copy_that_is_given_up_leaves_nothing(folder, follow, tmp_path, how):
    copy = Copy(tmp_path / "a.seg", SIZES)
    follower = follow(copy)
    copy.put(0)
    if how == "killed":
        follower.gone.set()
    else:
        copy.writer.void()
    assert follower.end() is None
    assert not list(folder.work.iterdir())


def test_a_process_that_ends_when_its_copy_is_complete_has_lost_nothing(follow, tmp_path):
    copy = Copy(tmp_path / "a.seg", SIZES)
    copy.finish()
    follower = follow(copy)
    follower.gone.set()
    assert contents_of(follower.commit(3)) == copy.contents


def test_what_is_there_twice_is_found_twice(follow, tmp_path):
    same = os.urandom(5 * MIB)
    sizes: Sizes = [(name, "F32", len(same)) for name in "abcd"]
    copy = Copy(tmp_path / "a.seg", sizes, dict.fromkeys("abcd", same))
    follower = follow(copy)
    copy.finish()
    path = follower.commit(1)
    verify_checkpoint(path)
    assert contents_of(path) == copy.contents


def test_what_lay_in_an_older_file_is_linked_and_not_written(folder, follow, tmp_path):
    sizes: Sizes = [("frozen", "F32", 20 * MIB), ("trained", "F32", 17 * MIB)]
    frozen = os.urandom(20 * MIB)
    known = Known()
    for step in (1, 2):
        copy = Copy(tmp_path / f"{step}.seg", sizes, {"frozen": frozen})
        copy.finish()
        make_checkpoint(folder, copy.path, step, Way(known))
    copy = Copy(tmp_path / "3.seg", sizes, {"frozen": frozen})
    follower = follow(copy, known)
    copy.finish()
    path = follower.commit(3)
    manifest = verify_checkpoint(path)
    assert contents_of(path) == copy.contents
    assert manifest.written < 18 * MIB


def test_what_lay_in_an_older_file_and_has_changed_is_written(folder, follow, tmp_path):
    sizes: Sizes = [("thawed", "F32", 20 * MIB), ("trained", "F32", 17 * MIB)]
    frozen = os.urandom(20 * MIB)
    known = Known()
    for step in (1, 2):
        copy = Copy(tmp_path / f"{step}.seg", sizes, {"thawed": frozen})
        copy.finish()
        make_checkpoint(folder, copy.path, step, Way(known))
    copy = Copy(tmp_path / "3.seg", sizes)
    follower = follow(copy, known)
    copy.finish()
    path = follower.commit(3)
    verify_checkpoint(path)
    assert contents_of(path) == copy.contents


def test_little_is_written_at_once_when_it_is_complete(folder, follow, tmp_path):
    copy = Copy(tmp_path / "a.seg", [("a", "F32", 4 * MIB)])
    assert follow(copy).end() is None
    assert not folder.work.exists()


def test_a_segment_that_is_being_copied_is_not_taken_for_a_dump(tmp_path):
    copy = Copy(tmp_path / "a.seg", SIZES)
    copy.put(0)
    with pytest.raises(Exception, match="was not completed"):
        Segment(copy.path)
    with Segment(copy.path, copying=True) as segment:
        assert segment.has(0, REGION)
        assert not segment.has(0, REGION + 1)
        assert not segment.has(1 << 40, 1)

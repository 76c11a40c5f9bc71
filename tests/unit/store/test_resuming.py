"""What a resume reads: the copy in memory where it is right, else the disk, and nothing that is neither."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
from store_fixtures.making import make_checkpoint, make_job, make_segment, pack_of

from ckptd.errors import DamagedError
from ckptd.memory.segment import Segment
from ckptd.store.resuming import ResumingCheckpoint

SIZES = [("big", "F32", 3 << 20), ("more", "I64", 2 << 20), ("small", "U8", 77), ("empty", "F16", 0)]


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path, dict[str, bytes]]:
    """A checkpoint, the segment that it was written from, and what both hold."""
    segment = make_segment(tmp_path / "a.seg", SIZES)
    path = make_checkpoint(make_job(tmp_path / "store"), segment, 7)
    with Segment(segment) as opened, opened.data() as data:
        held = {t.name: bytes(data[t.offset : t.offset + t.nbytes]) for t in opened.index.tensors}
    return path, segment, held


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def read(checkpoint: ResumingCheckpoint) -> dict[str, bytes]:
    checkpoint.verify_rest()
    return {name: bytes(checkpoint.storage(name)) for name in checkpoint.storages}


def place_of(segment: Path, name: str) -> int:
    with Segment(segment) as opened:
        return next(each.offset for each in opened.index.tensors if each.name == name)


def test_the_copy_in_memory_does_where_the_disk_is_damaged_and_the_other_way_round(made):
    path, segment, held = made
    assert read(ResumingCheckpoint(path)) == read(ResumingCheckpoint(path, segment)) == held
    flip(pack_of(path), -1)
    assert read(ResumingCheckpoint(path, segment)) == held
    with pytest.raises(DamagedError, match=f"{pack_of(path).name} is damaged"):
        read(ResumingCheckpoint(path))
    flip(pack_of(path), -1)
    for name in ("big", "small"):
        flip(segment, place_of(segment, name))
    assert read(ResumingCheckpoint(path, segment)) == held


def test_what_neither_has_is_not_handed_out(made):
    path, segment, _ = made
    flip(segment, place_of(segment, "big"))
    with Segment(segment) as opened:
        at = next(each.offset for each in opened.index.tensors if each.name == "big")
    size = os.path.getsize(pack_of(path))
    flip(pack_of(path), size - sum(nbytes for _, _, nbytes in SIZES) + at)
    with pytest.raises(DamagedError, match="of 'big' is another"):
        ResumingCheckpoint(path, segment).storage("big")


def test_a_copy_that_the_next_dump_was_overwriting_is_not_looked_at(made):
    path, segment, held = made
    for broken in (b"", segment.read_bytes()[:-3]):
        segment.write_bytes(broken)
        assert read(ResumingCheckpoint(path, segment)) == held
    segment.unlink()
    assert read(ResumingCheckpoint(path, segment)) == held


def test_a_graph_that_changed_is_found_when_it_is_read(made):
    path, _, _ = made
    (graph,) = path.glob("graph.msgpack*")
    flip(graph, -1)
    with pytest.raises(DamagedError):
        ResumingCheckpoint(path).graph()


def test_several_that_ask_at_once_get_the_same(made):
    path, segment, held = made
    for memory in (None, segment):
        checkpoint = ResumingCheckpoint(path, memory)
        seen: list[dict[str, bytes]] = []
        threads = [threading.Thread(target=lambda c=checkpoint, s=seen: s.append(read(c))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [held] * 4


def test_one_that_was_removed_is_damaged_to_whoever_comes_later(made):
    path, segment, _ = made
    shutil.rmtree(path)
    with pytest.raises(DamagedError):
        ResumingCheckpoint(path, segment)

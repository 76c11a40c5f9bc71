"""A commit that finds the disk full: room is made, and it is tried once more."""

from __future__ import annotations

import select

import pytest
from store_fixtures.making import make_job, make_segment

from ckptd.daemon import writer as module
from ckptd.daemon.resume import Base
from ckptd.daemon.worker import Done
from ckptd.daemon.writer import Committed, Saving, Writer
from ckptd.store import removal
from ckptd.store.reader import list_checkpoints
from ckptd.store.retention import Policy
from ckptd.store.writer import NoRoomError, write_checkpoint


@pytest.fixture
def folder(tmp_path):
    return make_job(tmp_path / "store")


@pytest.fixture
def writer(folder):
    made = Writer(folder, "train", Policy(last=9))
    yield made
    assert made.close(10)


def result(writer: Writer) -> Done:
    assert select.select([writer.fileno()], [], [], 10)[0]
    (done,) = writer.results()
    return done


def save(writer: Writer, tmp_path, step: int) -> Done:
    segment = make_segment(tmp_path / f"segment-{step}")
    writer.save(Saving(f"{step}-x", segment, step, "periodic", 1, 0.0, leave=False))
    done = result(writer)
    assert segment.exists() == isinstance(done.value, Committed)  # the newest stays, as a copy in memory
    return done


def test_room_is_made_and_the_commit_tried_again(writer, folder, tmp_path, monkeypatch):
    for step in (1, 2, 3):
        assert isinstance(save(writer, tmp_path, step).value, Committed)
    full = [True]

    def once(*args):
        if full.pop() if full else False:
            raise NoRoomError("no room left", 1000)
        return write_checkpoint(*args)

    monkeypatch.setattr(module, "write_checkpoint", once)
    monkeypatch.setattr(
        removal, "free_bytes", lambda path: 400 * (4 - len(list(folder.checkpoints.iterdir())))
    )
    done = save(writer, tmp_path, 4)
    assert isinstance(done.value, Committed)
    assert done.value.said == "the disk was full: removed the checkpoints at step 1, 2"
    assert [item.step for item in list_checkpoints(folder)] == [3, 4]


def test_where_no_room_can_be_made_the_error_stands(writer, folder, tmp_path, monkeypatch):
    save(writer, tmp_path, 1)

    def never(*args):
        raise NoRoomError("no room left", 1000)

    monkeypatch.setattr(module, "write_checkpoint", never)
    monkeypatch.setattr(removal, "free_bytes", lambda path: 0)
    assert str(save(writer, tmp_path, 2).error) == "no room left"
    assert [item.step for item in list_checkpoints(folder)] == [1]


def test_a_disk_that_runs_low_is_said_once(writer, tmp_path, monkeypatch):
    monkeypatch.setattr(removal, "free_bytes", lambda path: 0)
    said = []
    for step in (1, 2, 3):
        save(writer, tmp_path, step)
        writer.retain()
        sentences = result(writer).value
        assert isinstance(sentences, list)
        said.append(sentences)
    assert "the next checkpoint may need" in said[0][0]
    assert said[1] == [
        "the disk runs low: removed the checkpoint at step 1 to have room for the next checkpoint"
    ]
    assert len(said[2]) == 1


def test_what_is_unchanged_is_linked_by_the_writer_of_a_job(writer, folder, tmp_path):
    save(writer, tmp_path, 1)
    save(writer, tmp_path, 2)
    inodes = {file.stat().st_ino for file in folder.checkpoints.glob("*/*.safetensors")}
    assert len(inodes) == 1
    writer.find_base(True, None)
    base = result(writer).value
    assert isinstance(base, Base)
    assert base.manifest is not None
    assert base.step == 2
    assert base.manifest.parent == list_checkpoints(folder)[0].id

"""Stores as they were once written, and stores that a disk or a person has spoilt: kept, so that they stay readable."""

from __future__ import annotations

import json

import pytest
from store_fixtures.making import content
from store_fixtures.shelf import DAMAGE, unshelve

from ckptd.errors import DamagedError, NoStoreError, RefusedError
from ckptd.store.contents import Contents
from ckptd.store.graph import Graph
from ckptd.store.layout import MARKER, open_store
from ckptd.store.pins import read_mark
from ckptd.store.reader import OpenCheckpoint, list_checkpoints, newest_valid
from ckptd.store.verify import judge, verify_checkpoint


def test_format_2(tmp_path):
    (folder,) = open_store(unshelve("format-2", tmp_path / "store"), create=False).jobs()
    first, second = (item.path for item in list_checkpoints(folder))
    assert verify_checkpoint(first).facts["loss_mean"] == 0.3
    assert verify_checkpoint(second).parent == ""
    assert read_mark(second).tags == ("paper",)
    with OpenCheckpoint(second) as opened:
        with opened.storage("weight") as view:
            assert bytes(view) == content(400)
        assert {each.file for each in opened.storages.values()} == {
            "tensors-00000100.safetensors",
            "tensors-00000200.safetensors",
        }
        assert Contents(Graph(opened.graph(), "it")).variables == []


def test_a_store_of_format_1_becomes_one_of_format_2_when_it_is_written(tmp_path):
    path = unshelve("format-1", tmp_path / "store")
    created = json.loads((path / MARKER).read_text())["created"]
    open_store(path, create=False)
    assert json.loads((path / MARKER).read_text())["format"] == 1
    (folder,) = open_store(path).jobs()
    assert json.loads((path / MARKER).read_text()) == {"created": created, "format": 2}
    assert [judge(item.path, data=True).state for item in list_checkpoints(folder)] == ["complete"] * 2


STATES = {"nothing": "complete", "from_the_future": "unknown"}


def test_every_damage_is_found_and_says_which_file(tmp_path):
    (folder,) = open_store(unshelve("damaged", tmp_path / "store"), create=False).jobs()
    listed = {item.step: item for item in list_checkpoints(folder)}
    assert len(listed) == len(DAMAGE)
    for step, damage in enumerate(DAMAGE, start=1):
        item = listed[step] if step in listed else listed[99]
        verdict = judge(item.path, data=True)
        assert verdict.state == STATES.get(damage.__name__, "damaged"), damage.__name__
        assert str(item.path) in verdict.why or verdict.state == "complete"
        assert "\n" not in verdict.why
        if damage.__name__ not in STATES and "flipped" not in damage.__name__:  # those need a look at hashes
            with pytest.raises(DamagedError):
                OpenCheckpoint(item.path)


def test_a_resume_takes_what_is_whole_and_refuses_what_is_newer(tmp_path):
    (folder,) = open_store(unshelve("damaged", tmp_path / "store")).jobs()
    last = len(DAMAGE)
    assert DAMAGE[-1].__name__ == "from_the_future"
    (folder.checkpoints / "000000000099-000000ff").rename(tmp_path / "aside")
    with pytest.raises(RefusedError, match="format 99"):
        newest_valid(folder)
    next(folder.checkpoints.glob(f"{last:012d}-*")).rename(tmp_path / "future")
    found = newest_valid(folder)
    assert found is not None
    assert found.manifest.step == 1
    assert len(found.skipped) == len(DAMAGE) - 3


def test_a_job_folder_that_others_may_write_or_that_is_a_link_is_refused(tmp_path):
    path = unshelve("format-2", tmp_path / "store")
    (folder,) = open_store(path).jobs()
    for place in (folder.path, folder.checkpoints):
        place.chmod(0o770)
        with pytest.raises(NoStoreError, match="written by others"):
            open_store(path).jobs()
        with pytest.raises(NoStoreError, match="written by others"):
            open_store(path).job(folder.id)
        place.chmod(0o700)
    moved = folder.path.rename(tmp_path / "elsewhere")
    folder.path.symlink_to(moved)
    with pytest.raises(NoStoreError, match="symbolic link"):
        open_store(path).jobs()

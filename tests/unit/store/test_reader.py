"""What is damaged is found, and what is whole is used instead."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from store_fixtures.making import (
    FACTS,
    GRAPH,
    ROOT,
    graph_of,
    make_checkpoint,
    make_segment,
    pack_of,
    seal,
    tree,
)

from ckptd.errors import DamagedError, RefusedError
from ckptd.store import hashing
from ckptd.store.layout import open_store
from ckptd.store.reader import OpenCheckpoint, list_checkpoints, newest_valid
from ckptd.store.verify import judge, verify_checkpoint

FILES = ("manifest.json", "storages.msgpack", "tensors-*.safetensors", "graph.msgpack*")


def file_of(path: Path, pattern: str) -> Path:
    (found,) = path.glob(pattern)
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_byte_is_detected(folder, tmp_path, seeded: random.Random, name):
    segment = make_segment(tmp_path / "tiny", [("a", "F32", 8), ("b", "U8", 3)], facts={"loss": 1.5})
    path = make_checkpoint(folder, segment, 1)
    good = verify_checkpoint(path)
    file = file_of(path, name)
    whole = file.read_bytes()
    for index in range(len(whole)):
        if whole[index - 1 : index + 1] == b"  " and index % 19:
            continue  # one blank of the padding is like another
        flipped = bytearray(whole)
        flipped[index] ^= 1 << seeded.randrange(8)
        file.write_bytes(flipped)
        with pytest.raises(DamagedError) as caught:
            verify_checkpoint(path)
        assert str(file) in str(caught.value)
    file.write_bytes(whole)
    assert verify_checkpoint(path) == good


@pytest.mark.parametrize("name", FILES)
def test_cut_or_lengthened_files_are_detected_without_reading_data(folder, segment, name):
    path = make_checkpoint(folder, segment, 1)
    file = file_of(path, name)
    whole = file.read_bytes()
    for wrong in (whole[: len(whole) // 2], whole[:-1], b"", whole + b"\0"):
        file.write_bytes(wrong)
        with pytest.raises(DamagedError, match=file.name):
            verify_checkpoint(path, data=False)
        with pytest.raises(DamagedError, match=file.name):
            OpenCheckpoint(path)


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_regular_file_is_refused(folder, segment, tmp_path, name):
    path = make_checkpoint(folder, segment, 1)
    file = file_of(path, name)
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    with pytest.raises(DamagedError, match=f"{file.name} can't be read: it is not there"):
        verify_checkpoint(path)
    file.symlink_to(elsewhere)
    with pytest.raises(DamagedError, match="symbolic link"):
        verify_checkpoint(path)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(DamagedError, match="not a regular file"):
        verify_checkpoint(path)
    file.unlink()
    file.mkdir()
    with pytest.raises(DamagedError, match=file.name):
        OpenCheckpoint(path)


def test_a_folder_under_another_name_is_not_that_checkpoint(folder, segment):
    path = make_checkpoint(folder, segment, 1, id="00c0ffee")
    moved = path.rename(path.with_name("000000000009-00c0ffee"))
    with pytest.raises(DamagedError, match="its folder is 000000000009-00c0ffee"):
        verify_checkpoint(moved)


def test_listing_is_by_step_then_by_time_and_reads_manifests_only(folder, segment):
    assert list_checkpoints(folder) == []
    expected = [
        make_checkpoint(folder, segment, step, id=name, created=created)
        for step, name, created in [(2, "ffffffff", 10.0), (10, "eeeeeeee", 5.0), (10, "00000000", 6.0)]
    ]
    (folder.checkpoints / ".tmp-11111111").mkdir()
    (folder.checkpoints / "notes").mkdir()
    pack_of(expected[0]).unlink()
    listed = list_checkpoints(folder)
    assert [item.path for item in listed] == expected
    assert [(item.step, item.id, item.error) for item in listed] == [
        (2, "ffffffff", ""), (10, "eeeeeeee", ""), (10, "00000000", ""),
    ]  # fmt: skip
    assert listed[1].manifest is not None
    assert listed[1].manifest.facts == FACTS


def test_a_damaged_manifest_is_listed_with_what_is_wrong(folder, segment):
    path = make_checkpoint(folder, segment, 5)
    file = path / "manifest.json"
    file.write_bytes(file.read_bytes()[:100])
    (listed,) = list_checkpoints(folder)
    assert (listed.path, listed.manifest, listed.step) == (path, None, 5)
    assert listed.error == f"{file} is cut short or damaged: its own hash is not in it"


def test_a_resume_falls_back_and_says_so(folder, segment):
    paths = [make_checkpoint(folder, segment, step) for step in (1, 2, 3, 4)]
    found = newest_valid(folder)
    assert found is not None
    assert (found.path, found.skipped) == (paths[3], [])
    (paths[3] / "manifest.json").write_bytes(b"{")
    data = bytearray(pack_of(paths[2]).read_bytes())
    data[-1] ^= 1
    pack_of(paths[2]).write_bytes(data)
    found = newest_valid(folder)
    assert found is not None
    assert (found.path, found.manifest.step) == (paths[1], 2)
    assert [path for path, _ in found.skipped] == [paths[3], paths[2]]
    assert "manifest.json is cut short or damaged" in found.skipped[0][1]
    assert "safetensors is damaged" in found.skipped[1][1]


def test_nothing_to_resume_is_not_the_same_as_nothing_whole(folder, segment):
    assert newest_valid(folder) is None
    for step in (1, 2):
        graph_of(make_checkpoint(folder, segment, step)).unlink()
    with pytest.raises(
        DamagedError, match=r"all 2 checkpoints are damaged .*graph.msgpack.*--fresh"
    ) as caught:
        newest_valid(folder)
    assert caught.value.status == 13


def test_a_newer_format_is_not_skipped(folder, segment):
    make_checkpoint(folder, segment, 1)
    path = make_checkpoint(folder, segment, 2)
    fields = json.loads((path / "manifest.json").read_text())
    del fields["manifest_hash"]
    (path / "manifest.json").write_bytes(seal({**fields, "format": 3}))
    with pytest.raises(RefusedError, match="update ckptd"):
        newest_valid(folder)
    assert list_checkpoints(folder)[1].error.endswith("update ckptd")


def test_open_stays_readable_while_it_is_removed(folder, segment):
    path = make_checkpoint(folder, segment, 1)
    with OpenCheckpoint(path) as checkpoint:
        shutil.rmtree(path)
        assert checkpoint.graph() == GRAPH
        with checkpoint.storage("small") as view:
            assert view.nbytes == 24
        with pytest.raises(DamagedError, match="holds no tensor 'other'"):
            checkpoint.storage("other")
    checkpoint.close()


HEADS = [
    "", "[]", "{}", "{", '{"a": 1}', '{"a": {"dtype": "U8", "shape": [11], "data_offsets": [0, 12]}}',
    '{"a": {"dtype": "U8", "shape": [12], "data_offsets": [1, 13]}}',
    '{"a": {"dtype": "U8", "shape": [999], "data_offsets": [0, 999]}}',
    '{"a": {"dtype": "U8", "shape": [-12], "data_offsets": [12, 0]}}',
    '{"a": {"dtype": "U8", "shape": [true], "data_offsets": [0, 1]}}',
    '{"a": {"dtype": "U8", "shape": [3, 4], "data_offsets": [0, 12]}}',
    '{"a": {"dtype": "Q1", "shape": [12], "data_offsets": [0, 12]}}',
    '{"a": {"dtype": ["U8"], "shape": [12], "data_offsets": [0, 12]}}',
    '{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}',
]  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_a_tensor_file_with_right_hashes_and_a_wrong_head_is_refused(folder, tmp_path, head):
    """Bounds don't rest on hashes: whoever writes a manifest can write any hash."""
    path = make_checkpoint(folder, make_segment(tmp_path / "s", [("a", "U8", 12)]), 1)
    file = pack_of(path)
    whole = file.read_bytes()
    file.write_bytes(whole[:8] + head.encode().ljust(4088) + whole[4096:])
    reseal(path)
    with pytest.raises(DamagedError, match=r"safetensors is not a tensor file"):
        verify_checkpoint(path)
    with pytest.raises(DamagedError, match=r"safetensors is not a tensor file"):
        OpenCheckpoint(path)


@pytest.mark.parametrize("length", [0, 1, 4087, 4089, 4096, 2**32, 2**63, 2**64 - 1])
def test_a_wrong_length_of_the_head_is_refused(folder, segment, length):
    path = make_checkpoint(folder, segment, 1)
    file = pack_of(path)
    file.write_bytes(length.to_bytes(8, "little") + file.read_bytes()[8:])
    reseal(path)
    with pytest.raises(DamagedError, match="not a tensor file"):
        OpenCheckpoint(path)


def reseal(path: Path) -> None:
    """Give a checkpoint whose tensor file was changed hashes that are right."""
    fields = json.loads((path / "manifest.json").read_text())
    del fields["manifest_hash"]
    for entry in fields["files"]:
        hasher = hashing.hasher(hashing.BUILT_IN)
        hasher.update((path / entry["name"]).read_bytes()[: entry["hashed"]])
        entry["hash"] = hashing.written(hashing.BUILT_IN, hasher)
    (path / "manifest.json").write_bytes(seal(fields))


def test_the_training_process_loads_nothing_but_the_standard_library_and_msgpack():
    code = """
import sys
before = set(sys.modules)
import ckptd.store.reader
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    loaded = [name for name in done.stdout.split() if "cython" not in name]  # comes with msgpack
    assert loaded == ["ckptd", "msgpack"]


def test_a_store_of_format_1_as_it_was_first_written(tmp_path):
    """The fixture stays as it is for good: it is what people have on their disks."""
    path = tmp_path / "store"
    shutil.copytree(ROOT / "tests" / "fixtures" / "stores" / "format-1", path)
    for item in (path, *path.rglob("*")):  # git keeps no modes
        item.chmod(0o700 if item.is_dir() else 0o600)
    (folder,) = open_store(path, create=False).jobs()
    record = folder.load()
    assert (record.id, record.name, record.state, record.exit_status) == (
        "0123abcd",
        "digits",
        "unfinished",
        -15,
    )
    found = newest_valid(folder)
    assert found is not None
    assert (found.manifest.step, found.manifest.facts["loss"]) == (200, 0.125)
    assert [item.step for item in list_checkpoints(folder)] == [100, 200]
    with OpenCheckpoint(found.path) as checkpoint, checkpoint.storage("weight") as view:
        assert bytes(view) == bytes(range(40))
        assert checkpoint.graph() == GRAPH
    assert "jobs/0123abcd/checkpoints/000000000100-00000100/graph.msgpack" in tree(path)


def test_listing_while_another_process_removes(start, folder, segment):
    """What goes while we look is not damaged, it is gone."""
    process = start(
        """
import sys
from pathlib import Path
from store_fixtures.making import *
from ckptd.store.removal import remove
folder, segment = JobFolder(Path(sys.argv[1])), Path(sys.argv[2])
print("ready", flush=True)
for step in range(1, 10**6):
    remove(folder, [make_checkpoint(folder, segment, step)])
""",
        folder.path,
        segment,
    )
    assert process.stdout.readline() == "ready\n"
    seen = 0
    for _ in range(300):
        listed = list_checkpoints(folder)
        seen += len(listed)
        assert [item.error for item in listed if item.error and item.path.is_dir()] == []
        newest_valid(folder)
    assert process.poll() is None
    process.kill()


def test_what_was_removed_meanwhile_is_not_damaged(folder, segment):
    path = make_checkpoint(folder, segment, 1)
    shutil.rmtree(path)
    assert judge(path, data=True).state == "removed"
    assert judge(path, data=True).ok

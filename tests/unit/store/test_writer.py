"""Commit: whole or not there."""

from __future__ import annotations

import errno
import json
import mmap
import os
import resource
from itertools import pairwise
from pathlib import Path

import pytest
from store_fixtures.making import (
    FACTS,
    GRAPH,
    SIZES,
    content,
    make_checkpoint,
    make_manifest,
    make_segment,
    pack_of,
    tree,
)

from ckptd.errors import DumpFailedError, RefusedError
from ckptd.memory.segment import ITEM_BYTES, Segment, Tensor
from ckptd.store import hashing, packing
from ckptd.store.draft import Way
from ckptd.store.known import Known
from ckptd.store.reader import OpenCheckpoint, list_checkpoints
from ckptd.store.sweep import sweep
from ckptd.store.tensorfile import ALIGNMENT, make_head
from ckptd.store.verify import verify_checkpoint
from ckptd.store.writer import write_checkpoint


def key_by_name(path: Path) -> dict[str, str]:
    with OpenCheckpoint(path) as checkpoint:
        return {name: stored.key for name, stored in checkpoint.storages.items()}


def test_round_trip(folder, segment):
    with Segment(segment) as opened:
        path, manifest = write_checkpoint(
            folder, opened, make_manifest(12, id="00c0ffee", facts={"extra": 1})
        )
    assert path == folder.checkpoints / "000000000012-00c0ffee"
    assert tree(path) == [
        "graph.msgpack.zst", "manifest.json", "storages.msgpack", "tensors-00c0ffee.safetensors",
    ]  # fmt: skip
    assert manifest.facts == {**FACTS, "extra": 1}
    assert verify_checkpoint(path) == manifest
    with OpenCheckpoint(path) as checkpoint:
        assert checkpoint.manifest == manifest
        assert checkpoint.graph() == GRAPH
        data = content(sum(size for _, _, size in SIZES))
        for name, dtype, size in SIZES:
            tensor = checkpoint.tensors[name]
            with checkpoint.storage(name) as view:
                assert view.readonly
                assert (tensor.dtype, view.nbytes) == (dtype, size)
                assert bytes(view) == data[tensor.offset : tensor.offset + size]


def test_the_safetensors_package_reads_the_tensors(folder, segment):
    safetensors = pytest.importorskip("safetensors")
    numpy = pytest.importorskip("numpy")
    path = make_checkpoint(folder, segment, 1)
    keys = key_by_name(path)
    path = pack_of(path)
    data = content(47)
    with safetensors.safe_open(path, "np") as file:
        assert sorted(file.keys()) == sorted(keys[name] for name, _, _ in SIZES)
        assert file.metadata() == {"format": "ckptd"}
        assert numpy.array_equal(file.get_tensor(keys["steps"]), numpy.frombuffer(data[:16], "<i8"))
        assert numpy.array_equal(
            file.get_tensor(keys["small"]), numpy.frombuffer(data[16:40], "<f4"), equal_nan=True
        )
        assert numpy.array_equal(file.get_tensor(keys["odd"]), numpy.frombuffer(data[40:47], "u1"))


def test_every_element_type_is_aligned_and_loads(folder, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    segment = make_segment(tmp_path / "all", [(name, name, size * 3) for name, size in ITEM_BYTES.items()])
    path = make_checkpoint(folder, segment, 1)
    with OpenCheckpoint(path) as checkpoint:
        assert all(tensor.offset % ITEM_BYTES[tensor.dtype] == 0 for tensor in checkpoint.tensors.values())
    loaded = dict(safetensors.deserialize(pack_of(path).read_bytes()))
    keys = key_by_name(path)
    assert {name: loaded[keys[name]]["dtype"] for name in ITEM_BYTES} == {name: name for name in ITEM_BYTES}
    assert (int.from_bytes(pack_of(path).read_bytes()[:8], "little") + 8) % ALIGNMENT == 0


def test_a_program_without_tensors(folder, tmp_path):
    path = make_checkpoint(folder, make_segment(tmp_path / "none", [], graph=b"", facts={}), 0)
    with OpenCheckpoint(path) as checkpoint:
        assert checkpoint.tensors == {}
        assert checkpoint.graph() == b""
    verify_checkpoint(path)


def test_names_that_json_must_escape(folder, tmp_path):
    names = ['a"b', "é\n", "\N{SNOWMAN}", "__proto__", "x" * 5000]
    segment = make_segment(tmp_path / "odd", [(name, "U8", 1) for name in names])
    with OpenCheckpoint(make_checkpoint(folder, segment, 1)) as checkpoint:
        assert set(checkpoint.tensors) == set(names)


@pytest.mark.parametrize(
    "tensors",
    [
        [Tensor("a", "F32", 4, 4)], [Tensor("a", "F32", 4, 0), Tensor("b", "F32", 4, 0)],
        [Tensor("a", "F32", 3, 0)], [Tensor("a", "U8", 1, 0), Tensor("a", "U8", 1, 1)],
        [Tensor("a", "Q9", 4, 0)], [Tensor("a", "U8", -1, 0)], [Tensor("__metadata__", "U8", 1, 0)],
    ],
)  # fmt: skip
def test_an_index_that_no_tensor_file_can_hold(tensors):
    with pytest.raises(ValueError, match="tensor"):
        make_head(tensors)


def test_progress_goes_up_to_the_whole_in_bounded_steps(folder, tmp_path):
    segment = make_segment(tmp_path / "large", [("a", "U8", 3 * packing.CHUNK + 5)])
    seen: list[tuple[int, int]] = []
    with Segment(segment) as opened:
        path, manifest = write_checkpoint(
            folder, opened, make_manifest(1), Way(Known(), progress=lambda *now: seen.append(now))
        )
    assert {total for _, total in seen} == {manifest.written}
    done = [0, *(done for done, _ in seen)]
    assert done[-1] == manifest.written
    assert all(0 < after - before <= packing.CHUNK for before, after in pairwise(done))
    verify_checkpoint(path)


@pytest.mark.parametrize("algorithm", ["blake2b_128", "xxh3_128"])
def test_each_algorithm(folder, segment, algorithm, monkeypatch):
    if algorithm == "xxh3_128":
        pytest.importorskip("xxhash")
    with Segment(segment) as opened:
        path, manifest = write_checkpoint(folder, opened, make_manifest(1), Way(Known(), algorithm=algorithm))
    assert {entry.hash.partition(":")[0] for entry in manifest.files} == {algorithm}
    verify_checkpoint(path)
    monkeypatch.setitem(__import__("sys").modules, "xxhash", None)  # as if it weren't installed
    assert hashing.fastest() == "blake2b_128"
    if algorithm == "blake2b_128":
        verify_checkpoint(path)
    else:
        verify_checkpoint(path, data=False)
        with pytest.raises(RefusedError, match=r"safetensors can't be verified.*pip install 'ckptd\[fast\]'"):
            verify_checkpoint(path)


def failed(folder, segment, words: str, **options) -> str:
    """Try to write; it fails with these words, and nothing of it stays."""
    before = tree(folder.checkpoints)
    with Segment(segment) as opened:  # closing it raises BufferError if a view were left
        with pytest.raises(DumpFailedError, match=words) as caught:
            write_checkpoint(folder, opened, make_manifest(99), Way(Known(), **options))
        text = str(caught.value)
        del caught
    assert str(folder.checkpoints) in text or str(folder.path) in text
    assert "\n" not in text
    assert tree(folder.checkpoints) == before
    return text


def test_given_up_half_way(folder, tmp_path, segment):
    make_checkpoint(folder, segment, 1)
    large = make_segment(tmp_path / "large", [("a", "U8", 3 * packing.CHUNK)])
    for before in (0, 2, 4):  # while it is hashed, and while it is written
        answers = iter([False] * before + [True])
        failed(folder, large, "given up", cancelled=answers.__next__)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EIO, "input/output error"),
        (errno.ENOSPC, "has no room left: the checkpoint needs .* free"),
        (errno.EDQUOT, "disk quota: the checkpoint needs "),
        (errno.EROFS, "read-only"),
    ],
)
def test_a_failure_at_each_fsync_leaves_nothing(folder, segment, monkeypatch, code, words):
    kept = make_checkpoint(folder, segment, 1)
    real = os.fsync
    count = wrong = 0

    def fails(fd: int) -> None:
        nonlocal count
        count += 1
        if count == wrong:
            raise OSError(code, os.strerror(code))
        real(fd)

    monkeypatch.setattr(os, "fsync", fails)
    make_checkpoint(folder, segment, 2)
    calls = count
    assert calls >= 7  # the work folder, two files, manifest, work folder, checkpoints
    for number in range(1, calls + 1):
        count, wrong = 0, number
        failed(folder, segment, words)
    wrong = 0
    make_checkpoint(folder, segment, 3)
    assert [item.step for item in list_checkpoints(folder)] == [1, 2, 3]
    verify_checkpoint(kept)


def test_a_failure_at_each_write_leaves_nothing(folder, segment, monkeypatch):
    real = os.write
    for wrong in range(1, 6):  # data, head, table, graph, manifest
        count = 0

        def short_then_none(fd: int, data: memoryview) -> int:
            nonlocal count
            count += 1
            if count == 2 * wrong:  # noqa: B023 - called in this round only
                raise OSError(errno.EIO, "Input/output error")
            return real(fd, bytes(data[: max(1, len(data) // 2)])) if count % 2 else real(fd, data)

        monkeypatch.setattr(os, "write", short_then_none)
        failed(folder, segment, "input/output error")
    monkeypatch.undo()
    assert list_checkpoints(folder) == []


def test_a_limit_on_the_size_of_files(folder, tmp_path):
    large = make_segment(tmp_path / "large", [("a", "U8", 1 << 20)])
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, old[1]))
    try:
        failed(folder, large, r"checkpoint of 1.1 MB in .* over the file size limit: raise it \(ulimit -f\)")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    verify_checkpoint(make_checkpoint(folder, large, 1))


def test_where_room_cannot_be_reserved_it_is_counted(folder, segment, monkeypatch):
    def cannot(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    verify_checkpoint(make_checkpoint(folder, segment, 1))
    real = os.statvfs("/")
    none = os.statvfs_result((*real[:4], 0, *real[5:]))
    monkeypatch.setattr(os, "fstatvfs", lambda fd: none)
    failed(folder, segment, "has no room left")


def test_no_checkpoint_takes_the_place_of_another(folder, segment):
    path = make_checkpoint(folder, segment, 1, id="00c0ffee")
    before = verify_checkpoint(path)
    with Segment(segment) as opened, pytest.raises(DumpFailedError, match="there already"):
        write_checkpoint(folder, opened, make_manifest(1, id="00c0ffee"))
    assert verify_checkpoint(path) == before
    with Segment(segment) as opened, pytest.raises(ValueError, match="doesn't belong"):
        write_checkpoint(folder, opened, make_manifest(1, job="ffffffff"))
    with Segment(segment) as opened, pytest.raises(DumpFailedError, match="out of bounds"):
        write_checkpoint(folder, opened, make_manifest(-1))
    assert [item.path for item in list_checkpoints(folder)] == [path]


def test_an_index_with_holes_is_a_failed_dump(folder, segment):
    with Segment(segment) as opened:
        opened.index.tensors.reverse()
        with pytest.raises(DumpFailedError, match="doesn't follow the one before"):
            write_checkpoint(folder, opened, make_manifest(1))


def test_sweep_removes_what_the_dead_left_and_nothing_else(start, folder, segment):
    path = make_checkpoint(folder, segment, 1)
    process = start(
        """
import sys
from pathlib import Path
from store_fixtures.making import *
from ckptd.store.known import Known
from ckptd.store.draft import Way
from ckptd.store.writer import write_checkpoint
def stop(done, total):
    print("writing", flush=True)
    sys.stdin.read()
folder, segment = JobFolder(Path(sys.argv[1])), Segment(Path(sys.argv[2]))
write_checkpoint(folder, segment, make_manifest(2, id="00c0ffee"), Way(Known(), progress=stop))
""",
        folder.path,
        segment,
    )
    assert process.stdout.readline() == "writing\n"
    work = folder.work / "00c0ffee"
    (folder.checkpoints / ".tmp-deadbeef").mkdir()
    (folder.path / ".tmp-job.json-1-00").touch()
    assert len(sweep(folder)) == 2
    assert work.exists()
    process.kill()
    process.wait()
    assert [item.path for item in list_checkpoints(folder)] == [path]
    assert sweep(folder) == [work]
    assert sorted(folder.checkpoints.iterdir()) == [path]


def test_the_next_writer_sweeps(folder, segment):
    (folder.work / "deadbeef").mkdir(parents=True)
    (folder.work / "deadbeef" / "storages.msgpack").touch()
    path = make_checkpoint(folder, segment, 1)
    assert list(folder.work.iterdir()) == []
    assert sorted(folder.checkpoints.iterdir()) == [path]


def test_no_view_of_the_segment_is_left(folder, segment):
    with Segment(segment) as opened:
        write_checkpoint(folder, opened, make_manifest(1))
    mapped: mmap.mmap = opened._map
    assert mapped.closed


def test_the_manifest_is_json_for_people(folder, segment):
    path: Path = make_checkpoint(folder, segment, 3)
    parsed = json.loads((path / "manifest.json").read_text())
    assert (parsed["step"], parsed["facts"]["loss"]) == (3, 0.25)
    assert {entry["name"]: entry["nbytes"] for entry in parsed["files"]} == {
        file.name: file.stat().st_size for file in path.iterdir() if file.name != "manifest.json"
    }

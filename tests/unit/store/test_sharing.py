"""Only what changed is written, and that is never at the cost of what is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from store_fixtures.making import GRAPH, make_checkpoint, make_segment

from ckptd.errors import DamagedError
from ckptd.memory.room import Room
from ckptd.memory.segment import SegmentWriter, arrange
from ckptd.store import known
from ckptd.store.draft import Way
from ckptd.store.known import Known
from ckptd.store.layout import JobFolder
from ckptd.store.reader import OpenCheckpoint
from ckptd.store.verify import read_manifest, verify_checkpoint

Contents = dict[str, bytes]


def write(folder: JobFolder, tmp_path: Path, step: int, way: Way, contents: Contents) -> Path:
    """Commit storages of these bytes."""
    path = tmp_path / f"segment-{step}-{os.urandom(3).hex()}"
    tensors = arrange([(name, "U8", len(data)) for name, data in contents.items()])
    writer = SegmentWriter(Room(path), tensors, GRAPH, {"loss": 1.0})
    for tensor in tensors:
        writer.put(tensor.offset, contents[tensor.name])
    writer.finish()
    try:
        return make_checkpoint(folder, path, step, way)
    finally:
        path.unlink()


def holds(path: Path, contents: Contents) -> bool:
    verify_checkpoint(path)
    with OpenCheckpoint(path) as opened:
        return {name: bytes(opened.storage(name)) for name in opened.tensors} == contents


def packs(path: Path) -> set[str]:
    return {file.name for file in path.glob("*.safetensors")}


def random_contents(count: int, size: int) -> Contents:
    return {f"s{number}": os.urandom(size) for number in range(count)}


def test_99_percent_frozen(folder, tmp_path):
    """At most 1.05 times what changed, plus the graph; counted in the files themselves."""
    way, contents = Way(Known()), random_contents(200, 200_000)
    written = []
    seen: set[int] = set()
    for step in range(4):
        contents = {**contents, "s7": os.urandom(200_000), "s8": os.urandom(200_000)}
        path = write(folder, tmp_path, step, way, contents)
        new = {file.stat().st_ino: file.stat().st_size for file in path.iterdir()}
        written.append(sum(size for inode, size in new.items() if inode not in seen))
        seen |= set(new)
        assert holds(path, contents)
    assert written[0] > 40_000_000
    graph = max(file.stat().st_size for file in path.glob("graph.*"))
    assert all(size - graph <= 1.05 * 400_000 for size in written[1:]), written


def test_nothing_changed(folder, tmp_path):
    way, contents = Way(Known()), random_contents(3, 100_000)
    first = write(folder, tmp_path, 1, way, contents)
    second = write(folder, tmp_path, 2, way, contents)
    assert packs(first) == packs(second)
    assert read_manifest(second).written < 1000
    shutil.rmtree(first)
    assert holds(second, contents)


def test_the_same_bytes_are_written_once(folder, tmp_path):
    contents = {name: bytes(100_000) for name in "abcdef"}
    path = write(folder, tmp_path, 1, Way(Known()), contents)
    assert read_manifest(path).written < 110_000
    assert holds(path, contents)


def test_a_little_that_stays_does_not_keep_much_alive(folder, tmp_path):
    """A file of which less than half is in use is written anew, once."""
    way = Way(Known())
    small = {"constant": os.urandom(1000)}
    seen: list[set[str]] = []
    for step in range(4):
        path = write(folder, tmp_path, step, way, {**random_contents(3, 50_000), **small})
        seen.append(packs(path))
    assert [len(names) for names in seen] == [1, 2, 2, 2]
    (settled,) = seen[1] & seen[2] & seen[3]
    assert settled.startswith("settled-")
    assert sum(file.stat().st_size for file in path.iterdir()) < 2 * 151_000 + 20_000


def test_a_damaged_file_is_not_referred_to(folder, tmp_path, monkeypatch):
    """A disk that has lost a bit of the backbone spoils no checkpoint from then on."""
    way, contents = Way(Known()), random_contents(2, 10_000)
    first = write(folder, tmp_path, 1, way, contents)
    (file,) = first.glob("*.safetensors")
    before = os.stat(file)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    with open(file, "r+b") as opened:
        opened.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk would do it: nobody is told
    monkeypatch.setattr(known, "RECHECK_SECONDS", 0.0)
    assert holds(write(folder, tmp_path, 2, way, contents), contents)


def test_nothing_is_read_again_where_there_is_no_time(folder, tmp_path, monkeypatch):
    contents, answers = random_contents(3, 10_000), iter([False, False, True])
    way = Way(Known(), hurried=lambda: next(answers, True))
    first = write(folder, tmp_path, 1, way, contents)
    monkeypatch.setattr(known, "RECHECK_SECONDS", 0.0)
    assert packs(write(folder, tmp_path, 2, way, contents)) == packs(first)
    assert next(answers, None) is None  # it began to read, and left off


def test_a_changed_file_is_not_referred_to(folder, tmp_path):
    way, contents = Way(Known()), random_contents(2, 10_000)
    (file,) = write(folder, tmp_path, 1, way, contents).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert holds(write(folder, tmp_path, 2, way, contents), contents)


@pytest.mark.parametrize("gone", ["folder", "file"])
def test_what_was_removed_meanwhile_is_written_again(folder, tmp_path, gone):
    way, contents = Way(Known()), random_contents(2, 10_000)
    first = write(folder, tmp_path, 1, way, contents)
    shutil.rmtree(first) if gone == "folder" else next(first.glob("*.safetensors")).unlink()
    assert holds(write(folder, tmp_path, 2, way, contents), contents)


def test_where_no_links_can_be_made_everything_is_written(folder, tmp_path, monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    way, contents = Way(Known()), random_contents(2, 10_000)
    write(folder, tmp_path, 1, way, contents)
    monkeypatch.setattr(os, "link", refuse)
    second = write(folder, tmp_path, 2, way, contents)
    assert read_manifest(second).written > 20_000
    assert holds(second, contents)


def test_a_verified_checkpoint_of_an_earlier_process_can_be_linked(folder, tmp_path):
    contents = random_contents(2, 10_000)
    first = write(folder, tmp_path, 1, Way(Known()), contents)
    fresh = Way(Known())
    fresh.known.trust(first, verify_checkpoint(first))
    assert packs(write(folder, tmp_path, 2, fresh, contents)) == packs(first)


def test_another_algorithm_shares_nothing(folder, tmp_path):
    contents, way = random_contents(1, 5000), Known()
    first = write(folder, tmp_path, 1, Way(way, algorithm="blake2b_128"), contents)
    second = write(folder, tmp_path, 2, Way(way, algorithm="xxh3_128"), contents)
    assert not packs(first) & packs(second)
    assert holds(second, contents)


def test_compressed_tensors(folder, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    way = Way(Known(), squeeze=True)
    contents = {"zeros": bytes(300_000), "noise": os.urandom(100_000), "text": b"abc" * 70_000, "none": b""}
    path = write(folder, tmp_path, 1, way, contents)
    assert read_manifest(path).written < 120_000
    assert holds(path, contents)
    (file,) = path.glob("*.safetensors")
    with safetensors.safe_open(file, "np") as opened:  # the frames are plain entries to others
        assert sum(name.endswith(".zst") for name in opened.keys()) == 2  # noqa: SIM118
    assert packs(write(folder, tmp_path, 2, way, contents)) == packs(path)
    whole = file.read_bytes()
    for index in range(len(whole) - 3000, len(whole), 29):
        file.write_bytes(whole[:index] + bytes([whole[index] ^ 0x40]) + whole[index + 1 :])
        try:
            same = holds(path, contents)
        except DamagedError:
            continue
        assert same  # a bit of a frame that decides nothing
    file.write_bytes(whole)
    assert holds(path, contents)


def test_commit_does_not_get_slower_and_listing_is_fast(folder, tmp_path):
    """Ten thousand checkpoints; in processor time, for the machine may be busy with something else."""
    import time

    from ckptd.store import index

    way = Way(Known())
    segment = make_segment(tmp_path / "tiny")

    def pace(step: int) -> float:
        times = []
        for number in range(15):
            begun = time.process_time()
            make_checkpoint(folder, segment, step + number, way)
            times.append(time.process_time() - begun)
        return sorted(times)[7]

    few = pace(0)
    model = sorted(folder.checkpoints.iterdir())[-1]
    _multiply(folder, model, 10_000)
    many = pace(20_000)
    begun = time.process_time()
    listed = index.entries(folder)
    seconds = time.process_time() - begun
    assert len(listed) == 10_030
    assert all(entry.good for entry in listed)
    print(f"commit {few * 1000:.1f} ms with 15, {many * 1000:.1f} ms with 10,000; listing {seconds:.2f} s")
    assert many < 1.5 * few + 0.002
    assert seconds < 1.0


def _multiply(folder: JobFolder, model: Path, count: int) -> None:
    """Checkpoints by the thousand, each with a manifest of its own, all other files linked."""
    from dataclasses import replace

    from ckptd.store import index
    from ckptd.store.manifest import encode

    manifest = read_manifest(model)
    lines = []
    for number in range(count):
        mine = replace(manifest, step=100 + number, id=f"{number:08x}")
        path = folder.checkpoints / mine.folder
        path.mkdir(mode=0o700)
        (path / "manifest.json").write_bytes(encode(mine))
        lines.append(index._line(path, index.entry_of(path, mine)))
    with open(folder.path / index.INDEX, "ab") as file:
        file.writelines(lines)

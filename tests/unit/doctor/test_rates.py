"""What is measured: that it is done for real, is bounded, and leaves nothing."""

import os
import time
from pathlib import Path

import pytest

from ckptd.doctor import far, rates
from ckptd.errors import RemoteError

MB = 1 << 20


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(rates, "COPY_BYTES", 8 * MB)
    monkeypatch.setattr(rates, "FIRST_BYTES", 8 * MB)
    monkeypatch.setattr(rates, "ENOUGH_SECONDS", 0.02)
    monkeypatch.setattr(rates, "LAST_BYTES", 32 * MB)
    monkeypatch.setattr(far, "LAST_BYTES", MB)
    monkeypatch.setattr(far, "ENOUGH_SECONDS", 0.02)


class Counter:
    def __init__(self) -> None:
        self.nbytes = 0

    def __call__(self, count: int) -> None:
        self.nbytes += count


def test_a_copy_into_shared_memory(tmp_path):
    done = Counter()
    first, again = rates.measure_copy(tmp_path, 1 << 40, done)
    assert first > 10 * MB
    assert again > 10 * MB
    assert done.nbytes == 2 * rates.ROUNDS * 8 * MB
    assert os.listdir(tmp_path) == []


def test_the_copy_is_one(tmp_path, monkeypatch):
    """What the threads write is what was there, to the last byte."""
    seen = []
    copy = rates._copy

    def look(source, target, size, fd):
        copy(source, target, size, fd)
        seen.append(target[:size].count(b"\xa5") == size)

    monkeypatch.setattr(rates, "_copy", look)
    monkeypatch.setattr(rates, "PART", 3 * MB + 4096)  # the last part is a shorter one
    rates.measure_copy(tmp_path, 1 << 40, Counter())
    assert seen == [True] * 2 * rates.ROUNDS


def test_without_memory_nothing_is_copied(tmp_path):
    assert rates.measure_copy(tmp_path, 1 * MB, Counter()) == (0.0, 0.0)


def test_pages_of_an_old_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(rates, "_POPULATE_WRITE", 12345)  # EINVAL, as before Linux 5.14
    assert rates.measure_copy(tmp_path, 1 << 40, Counter())[0] > MB


def test_a_disk(tmp_path):
    done = Counter()
    begun = time.monotonic()
    write, direct, read = rates.measure_disk(tmp_path, done)
    taken = time.monotonic() - begun
    assert write > 0
    assert direct >= 0
    assert read > 0
    assert done.nbytes >= 2 * rates.FIRST_BYTES
    assert done.nbytes / taken <= max(write, direct, read) * 1.5  # no rate is one that was not seen
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_nameless_files(tmp_path, monkeypatch):
    opened = os.open

    def refuse(path, flags, *rest, **named):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return opened(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refuse)
    assert rates.measure_disk(tmp_path, Counter())[0] > 0
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_not_filled_further(tmp_path, monkeypatch):
    there = os.statvfs(tmp_path)
    fields = list(there)
    fields[4] = 10 * MB // there.f_frsize  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    done = Counter()
    assert rates.measure_disk(tmp_path, done) == (0.0, 0.0, 0.0)
    assert done.nbytes == 0


def test_a_folder_that_cant_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        rates.measure_disk(tmp_path / "gone", Counter())


def test_the_hash_that_the_store_uses():
    name, rate = rates.measure_hash(Counter())
    assert name in ("xxh3_128", "blake2b_128")
    assert rate > 10 * MB


# ---- remotes ------------------------------------------------------------------------------------


def test_a_remote_in_a_folder_is_left_as_it_was(tmp_path):
    (tmp_path / "kept").write_text("mine")
    up, down = far.measure_remote(f"file://{tmp_path}", Counter())
    assert min(up, down) > 0
    assert os.listdir(tmp_path) == ["kept"]


def test_a_remote_that_fails_in_between_is_left_clean(tmp_path, monkeypatch):
    from ckptd.remote.folder import FolderBackend

    read = FolderBackend.read

    def spoil(self, name, limit):
        data = read(self, name, limit)
        return data[:-1] if data else data

    monkeypatch.setattr(FolderBackend, "read", spoil)
    with pytest.raises(RemoteError, match="other bytes"):
        far.measure_remote(f"file://{tmp_path}", Counter())
    assert os.listdir(tmp_path) == []


def test_a_remote_that_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RemoteError):
        far.measure_remote(f"file://{Path(tmp_path) / 'file'}", Counter())

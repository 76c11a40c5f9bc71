"""Copies, saves and reads a state in the ways that a user could, and prints what each took. Knows nothing of ckptd.

    python rivals.py --size BYTES --tensors N --folder FOLDER [--first K] [--only NAME ...] [--times N] [--leave]

Prints a JSON map of names to seconds, the median of ``--times`` (copies: of three at least); each is called once
before, with a little state. Whatever writes to the disk ends with fsync of the file and of its folder; what was
written is removed, and that made durable, before the next begins. ``--first`` is which of them begins: another one
each time, so that none profits from its place.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from state import make

BLOCK = 16 << 20
"""Bytes of one write."""
ALIGNED = 4096
SMALL = 1 << 16


class Bench:
    """A state, and the ways to copy and save it. Each takes no argument and returns its seconds."""

    def __init__(self, size: int, tensors: int, folder: Path) -> None:
        self.state = {f"t{n}": each for n, each in enumerate(make(size, tensors))}
        self.folder = folder
        self.nbytes = sum(each.nbytes for each in self.state.values())
        self.blocked = 0.0
        """Seconds for which the last dcp_async_save kept its caller."""
        rounded = -(-self.nbytes // ALIGNED) * ALIGNED
        self._buffer = mmap.mmap(-1, rounded, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._copy(self._buffer)  # touches each page, and is what the plain writes write

    def _copy(self, room: mmap.mmap) -> None:
        with warnings.catch_warnings():
            flat = torch.frombuffer(room, dtype=torch.float32)
        start = 0
        for each in self.state.values():
            flat[start : start + each.numel()].copy_(each)
            start += each.numel()

    # ---- in memory ------------------------------------------------------------------------------

    def copy(self) -> float:
        """Into memory that has been used before, with torch's threads."""
        began = time.perf_counter()
        self._copy(self._buffer)
        return time.perf_counter() - began

    def copy_one_thread(self) -> float:
        return self._with_one_thread(self.copy)

    def copy_shared(self) -> float:
        """Into a file in shared memory that is new: its pages are made on the way."""
        fd = os.memfd_create("rivals")
        try:
            began = time.perf_counter()
            os.ftruncate(fd, self.nbytes)
            room = mmap.mmap(fd, self.nbytes)
            self._copy(room)
            return time.perf_counter() - began
        finally:
            os.close(fd)

    def copy_shared_one_thread(self) -> float:
        return self._with_one_thread(self.copy_shared)

    def _with_one_thread(self, way: Callable[[], float]) -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return way()
        finally:
            torch.set_num_threads(threads)

    # ---- to the disk ----------------------------------------------------------------------------

    def write(self) -> float:
        """One file of the same bytes through the page cache, one write after the other."""
        return self._write(0)

    def write_direct(self) -> float:
        """The same past the page cache."""
        return self._write(os.O_DIRECT)

    def can_be_direct(self) -> bool:
        """Not each file system can."""
        path = self.folder / "probe"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o600))
        except OSError:
            return False
        finally:
            path.unlink(missing_ok=True)
        return True

    def _write(self, flag: int) -> float:
        path = self.folder / "plain"
        began = time.perf_counter()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flag, 0o600)
        try:
            if flag:
                os.posix_fallocate(fd, 0, len(self._buffer))
            with memoryview(self._buffer) as view:
                done = 0
                while done < len(view):
                    with view[done : done + BLOCK] as block:
                        done += os.write(fd, block)
            os.fsync(fd)
        finally:
            os.close(fd)
        self._sync_folder()
        return time.perf_counter() - began

    def torch_save(self) -> float:
        path = self.folder / "saved.pt"
        began = time.perf_counter()
        with open(path, "wb") as file:
            torch.save(self.state, file)
            file.flush()
            os.fsync(file.fileno())
        self._sync_folder()
        return time.perf_counter() - began

    def safetensors(self) -> float:
        from safetensors.torch import save_file

        path = self.folder / "saved.safetensors"
        began = time.perf_counter()
        save_file(self.state, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        self._sync_folder()
        return time.perf_counter() - began

    def dcp_save(self) -> float:
        """It syncs its files itself."""
        from torch.distributed import checkpoint

        began = time.perf_counter()
        checkpoint.save(self.state, checkpoint_id=self.folder / "dcp", no_dist=True)
        self._sync_folder()
        return time.perf_counter() - began

    def dcp_async_save(self) -> float:
        """Until it is durable; how long the caller waited is kept beside it."""
        from torch.distributed import checkpoint

        began = time.perf_counter()
        future = checkpoint.async_save(self.state, checkpoint_id=self.folder / "dcp", no_dist=True)
        self.blocked = time.perf_counter() - began
        future.result()
        self._sync_folder()
        return time.perf_counter() - began

    # ---- from the disk --------------------------------------------------------------------------

    def read(self) -> float:
        """A file of the same bytes that is not in the page cache, into memory that has been used before."""
        return self._read(0, cold=True)

    def read_direct(self) -> float:
        """The same past the page cache."""
        return self._read(os.O_DIRECT, cold=True)

    def read_cached(self) -> float:
        """The same of a file that is in the page cache."""
        return self._read(0, cold=False)

    def _read(self, flag: int, *, cold: bool) -> float:
        self.write()
        fd = os.open(self.folder / "plain", os.O_RDONLY | flag)
        try:
            if cold:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            began = time.perf_counter()
            with memoryview(self._buffer) as view:
                done = 0
                while done < len(view):
                    with view[done : done + BLOCK] as block:
                        done += os.readv(fd, [block])
            return time.perf_counter() - began
        finally:
            os.close(fd)

    # ---- beside them ----------------------------------------------------------------------------

    def clear(self) -> None:
        """Remove what was written; the disk has done what that takes when this returns."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._sync_folder()

    def _sync_folder(self) -> None:
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


COPIES = ("copy", "copy_one_thread", "copy_shared", "copy_shared_one_thread")
SAVES = ("write", "write_direct", "torch_save", "safetensors", "dcp_save", "dcp_async_save")
READS = ("read", "read_direct", "read_cached")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--tensors", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=COPIES + SAVES + READS, default=COPIES + SAVES)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--leave", action="store_true", help="what was written")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="torch")
    first = options.first % len(options.only)
    small = Bench(SMALL, 1, options.folder)  # what is imported and made at the first call is so before
    for name in options.only:
        if not name.endswith("_direct"):
            getattr(small, name)()
            small.clear()
    bench = Bench(options.size, options.tensors, options.folder)
    seconds: dict[str, list[float]] = {}
    for name in (*options.only[first:], *options.only[:first]):
        if name.endswith("_direct") and not bench.can_be_direct():
            continue
        for _ in range(max(options.times, 3 if name in COPIES else 1)):
            seconds.setdefault(name, []).append(getattr(bench, name)())
            if name == "dcp_async_save":
                seconds.setdefault("dcp_async_blocked", []).append(bench.blocked)
            if not options.leave:
                bench.clear()
    print(json.dumps({name: median(each) for name, each in seconds.items()}))


if __name__ == "__main__":
    main()

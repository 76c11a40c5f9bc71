"""A live training whose store's disk fails in every way: it is not stopped, the error is said, the next dump works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from ckptd.daemon.table import read_table
from ckptd.store.layout import open_store
from ckptd.store.reader import list_checkpoints, newest_valid
from ckptd.store.verify import verify_checkpoint
from faults import fileops
from harness import Action, LiveRun, Outcome, Said, leftovers

PROGRAM = """\
import os, time
import torch

model = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.Linear(512, 512))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
for step in range(100_000):
    loss = model(torch.randn(4, 64)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print("step", step, flush=True)
    time.sleep(0.01)
    if os.path.exists("enough"):
        break
print("done")
"""
GOES_ON = 20
"""So many steps after an error training has gone on."""
OPTIONS = ("--every", "10steps", "--keep-last", "1", "-v")


@dataclass(frozen=True)
class Steps:
    """Training has come to a step."""

    step: int
    after: float = 0.0

    def has_come(self, view: Any) -> bool:
        return _step(view) >= self.step


@dataclass(frozen=True)
class So:
    """Something is so."""

    what: Callable[[], bool]
    after: float = 0.0

    def has_come(self, view: object) -> bool:
        return self.what()


def _step(run: Any) -> int:
    lines = run.lines()
    return int(lines[-1].split()[1]) if lines and lines[-1].startswith(b"step ") else -1


def wait(run: LiveRun, moment: Any) -> None:
    """Wait for a moment; AssertionError with all that was said if it doesn't come."""
    run.act(Action(moment, signal=0, same=bool(run.processes)))


def saved(run: LiveRun) -> int:
    """How many checkpoints ckptd has said to be saved."""
    return sum(b": saved step " in line for line in run.said())


def failed(run: LiveRun, words: str) -> int:
    """How many dumps failed for that reason."""
    told = re.compile(f"could not save: .*{words}.*; training goes on".encode())
    return sum(1 for line in run.said() if told.search(line))


def after(run: LiveRun) -> Said:
    """The next checkpoint is saved."""
    return Said("^ckptd: saved step ", n=saved(run) + 1)


@contextmanager
def trouble(run: LiveRun, words: str) -> Iterator[None]:
    """While the body's fault is there, a dump fails with these words, and training goes on."""
    count = failed(run, words)
    yield
    wait(run, Said(f"could not save: .*{words}.*; training goes on", n=count + 1))
    wait(run, Steps(_step(run) + GOES_ON))


def end(run: LiveRun) -> Outcome:
    """Let the program come to its end, which it does by itself."""
    (run.cwd / "enough").touch()
    outcome = run.wait()
    assert outcome.status == 0, outcome.stderr.decode()
    *steps, done = outcome.stdout.decode().splitlines()
    assert done == "done"
    assert steps == [f"step {number}" for number in range(len(steps))]
    assert len(outcome.processes) == 1
    return outcome


def whole(store: Path, outcome: Outcome) -> None:
    """What is listed is right, and the newest that was said to be saved is there."""
    (folder,) = open_store(store).jobs()
    listed = list_checkpoints(folder)
    for item in listed:
        verify_checkpoint(item.path)
    *_, last = re.findall(rb"saved step (\d+) ", outcome.stderr)
    found = newest_valid(folder)
    assert found is not None
    assert found.manifest.step == int(last)
    assert found.skipped == []
    assert leftovers(store) == []


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The program."""
    path = tmp_path / "train.py"
    path.write_text(PROGRAM)
    return path


FAULTS = [
    ("EIO", True, "the disk reports an input/output error"),
    ("EROFS", False, "the file system is read-only"),
    ("EDQUOT", False, "has used up your disk quota"),
    ("ENOSPC", False, "has no room left"),
]


@pytest.mark.skipif(
    fileops.compiler() is None, reason="needs a C compiler, for a library that lets calls fail"
)
def test_a_disk_that_fails_and_one_that_is_slow(tmp_path: Path, script: Path) -> None:
    store, fault = tmp_path / "store", fileops.Fault(tmp_path / "fault")
    env = fileops.preload(fileops.build(tmp_path), store, FAULT=fault.file)
    with LiveRun([script], tmp_path / "run", store=store, options=OPTIONS, env=env, deadline=90) as run:
        wait(run, after(run))
        for name, reads, words in FAULTS:
            with trouble(run, words):
                fault.set(name, reads=reads)
            fault.clear()
            wait(run, after(run))
        fault.set(milliseconds=200, reads=True)
        begun = _step(run)
        wait(run, So(lambda: _slow(store)))
        wait(run, Steps(begun + 5 * GOES_ON))
        fault.clear()
        wait(run, after(run))
        outcome = end(run)
    whole(store, outcome)


def _slow(store: Path) -> bool:
    """Whether a checkpoint is being written now."""
    return any(store.glob("jobs/*/work/*"))


def _namespace() -> list[str]:
    """The words before a command that gives it file systems of its own; none if that isn't allowed here."""
    words = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return []
    test = subprocess.run([*words, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return words if test.returncode == 0 else []


def _inside(run: LiveRun, *command: str) -> None:
    """Run a command with the file systems of a run."""
    pid = str(run.processes[-1].pid)
    own = ["-U", "--preserve-credentials"] if os.geteuid() != 0 else []
    subprocess.run(["nsenter", "-t", pid, *own, "-m", *command], check=True, capture_output=True)


@pytest.mark.skipif(not _namespace(), reason="needs mount namespaces (unshare, nsenter)")
def test_a_disk_that_fills_up_and_one_that_becomes_read_only(tmp_path: Path, script: Path) -> None:
    """On a real file system of 6 MB; the job's record says what happened, too."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=6m,mode=0700 tmpfs "$0" && exec "$@"'
    before = [*_namespace(), "sh", "-ec", mount, str(disk)]
    with LiveRun(
        [script], tmp_path / "run", store=disk / "store", options=OPTIONS, before=before, deadline=90
    ) as run:
        wait(run, after(run))
        seen = Path(f"/proc/{run.processes[0].pid}/root{disk}")
        with trouble(run, "has no room left"):
            _fill(seen / "filler", leave=300_000)
        wait(run, So(lambda: "the last dump could not be saved: " in _note(seen)))
        (seen / "filler").unlink()
        wait(run, after(run))
        wait(run, So(lambda: _note(seen) == ""))
        with trouble(run, "the file system is read-only"):
            # Over itself: a mount with a file open for writing (the job's lock) is not made read-only.
            _inside(run, "mount", "--bind", str(disk), str(disk))
            _inside(run, "mount", "-o", "remount,bind,ro", str(disk))
        _inside(run, "umount", "-l", str(disk))
        wait(run, after(run))
        _copy(seen / "store", tmp_path / "copy")
        for path in (tmp_path / "copy").glob("jobs/*/checkpoints/*"):
            verify_checkpoint(path)
        end(run)


def _copy(store: Path, to: Path) -> None:
    """Copy a store while its job runs: begun again where retention removed something on the way."""
    until = monotonic() + 30
    while True:
        try:
            shutil.copytree(store, to)
            return
        except (shutil.Error, FileNotFoundError):
            assert monotonic() < until, "the store never stood still for a copy"
            shutil.rmtree(to, ignore_errors=True)


def _fill(file: Path, leave: int) -> None:
    """Take all room but ``leave`` bytes."""
    free = os.statvfs(file.parent)
    with file.open("wb") as opened:
        os.posix_fallocate(opened.fileno(), 0, free.f_bavail * free.f_frsize - leave)


def _note(disk: Path) -> str:
    """What the job's record, and with it ``ckptd ps``, says of the last dump."""
    (row,) = read_table(open_store(disk / "store", create=False))
    return row.note

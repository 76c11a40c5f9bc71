"""One process holds a job, and the kernel frees it."""

from __future__ import annotations

import fcntl
import os
import signal

import pytest

from ckptd.errors import LockedError
from ckptd.store.lock import JobLock, holder

HOLD = """
import sys, subprocess
from pathlib import Path
from ckptd.store.layout import JobFolder
from ckptd.store.lock import JobLock
lock = JobLock(JobFolder(Path(sys.argv[1])))
lock.acquire()
child = subprocess.Popen(["sleep", "600"], close_fds=False) if sys.argv[2] == "child" else None
print(child.pid if child else 0, flush=True)
sys.stdin.read()
lock.release()
print("released", flush=True)
sys.stdin.read()
"""


def test_acquire_and_release(folder):
    lock = JobLock(folder)
    assert holder(folder) is None
    with lock:
        lock.acquire()  # once more is no harm
        owner = holder(folder)
        assert owner is not None
        assert owner.pid == os.getpid()
        with pytest.raises(LockedError):
            JobLock(folder).acquire()
    assert not lock.held
    lock.release()  # so is this
    assert holder(folder) is None
    with JobLock(folder):
        pass


def test_another_process_holds_it(start, folder):
    process = start(HOLD, folder.path, "alone")
    assert process.stdout.readline() == "0\n"
    with pytest.raises(LockedError) as caught:
        JobLock(folder).acquire()
    message = str(caught.value)
    assert caught.value.status == 11
    assert f"held by process {process.pid} on {os.uname().nodename} since 20" in message
    assert f"(kill {process.pid})" in message
    assert "\n" not in message
    process.stdin.close()
    assert process.stdout.readline() == "released\n"
    with JobLock(folder):
        pass


def test_a_killed_holder_frees_it_though_its_child_lives(start, folder):
    process = start(HOLD, folder.path, "child")
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        assert holder(folder) is None
        with JobLock(folder):
            owner = holder(folder)
            assert owner is not None
            assert owner.pid == os.getpid()
        assert os.path.exists(f"/proc/{child}")
    finally:
        os.kill(child, signal.SIGKILL)


def test_many_race_and_one_wins(start, folder):
    processes = [start(HOLD, folder.path, "alone") for _ in range(4)]
    winner = None
    for process in processes:
        line = process.stdout.readline()
        if line:
            assert winner is None
            winner = process
        else:
            assert "LockedError" in process.stderr.read()
    assert winner is not None


def test_a_holder_that_has_not_said_who_it_is(folder):
    with folder.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another open file is another holder, in this process too
        assert holder(folder) is None
        with pytest.raises(LockedError, match="held by another process"):
            JobLock(folder).acquire()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": "x", "host": 1, "since": 0}', "\0" * 9000])
def test_an_old_text_in_the_file_is_no_lock(folder, text):
    folder.lock.write_text(text)
    assert holder(folder) is None
    with JobLock(folder):
        owner = holder(folder)
        assert owner is not None
        assert owner.pid == os.getpid()

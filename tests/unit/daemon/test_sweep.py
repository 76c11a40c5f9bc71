"""Ending processes: one that waits in the kernel, where SIGKILL has no effect, is waited for in bounds and named."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckptd.daemon import sweep
from ckptd.daemon.cell import make_cell
from ckptd.daemon.loop import Loop
from ckptd.daemon.processes import Tree, reap

IN = struct.Struct("=IIQQIIII")
OUT = struct.Struct("=IiQ")
INIT = 26
_DETACH = 2


class DeadFileSystem:
    """A FUSE file system whose server takes each request and never answers: as NFS behind a broken cable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        if self.libc.mount(b"ckptd-test", os.fsencode(folder), b"fuse", 0, options.encode()):
            os.close(self.fd)
            raise OSError(ctypes.get_errno(), "mount")
        opcode, unique = self.request()
        assert opcode == INIT
        answer = struct.pack("=IIIIHHIIHH32x", 7, 31, 0, 0, 8, 8, 4096, 1, 1, 0)
        os.write(self.fd, OUT.pack(OUT.size + len(answer), 0, unique) + answer)

    def request(self) -> tuple[int, int]:
        """The next one: (what is asked, its number)."""
        found = IN.unpack_from(os.read(self.fd, 1 << 17))
        return found[1], found[2]

    def close(self) -> None:
        """Let go whoever waits."""
        self.libc.umount2(os.fsencode(self.folder), _DETACH)
        os.close(self.fd)


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[DeadFileSystem]:
    try:
        system = DeadFileSystem(tmp_path)
    except OSError as error:
        pytest.skip(f"no FUSE here: {error}")
    yield system
    system.close()


def collect() -> None:
    reap()


def run(loop: Loop, over: list[bool]) -> None:
    end = time.monotonic() + 20
    while not over:
        assert time.monotonic() < end
        loop.turn()


def test_a_process_in_uninterruptible_sleep_is_left_and_named(dead, monkeypatch):
    monkeypatch.setattr(sweep, "BOUND", 0.5)
    tree, loop = Tree(), Loop()
    said: list[str] = []
    over: list[bool] = []
    code = f"import os; os.stat({str(dead.folder / 'x')!r})"
    stuck = subprocess.Popen([sys.executable, "-c", code])
    dead.request()  # it has been asked: from here on the process can't be killed
    began = time.monotonic()
    sweep.Sweep(loop, tree, collect, said.append).begin(gentle=0.1, then=lambda: over.append(True))
    run(loop, over)
    assert 0.5 < time.monotonic() - began < 5
    assert len(said) == 1
    assert said[0].startswith(f"not ended by SIGKILL in 0.5 s, and left behind: process {stuck.pid} (python")
    assert "waits in the kernel, for a disk, a file system or a device: state D" in said[0]
    dead.close()
    dead.fd = os.open(os.devnull, os.O_RDONLY)
    assert stuck.wait(10) in (-signal.SIGKILL, -signal.SIGTERM)  # both have been waiting for it


UNIFIED = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]


@pytest.fixture
def scope() -> Iterator[Path]:
    """A cgroup that is named like a scope of ckptd's."""
    for root in UNIFIED:
        folder = root / f"ckptd-job-test-{os.getpid()}.scope"
        try:
            folder.mkdir()
        except OSError:
            continue
        if folder.joinpath("cgroup.kill").exists():
            break
        folder.rmdir()
    else:
        pytest.skip("no cgroup (version 2) can be made here")
    yield folder
    folder.joinpath("cgroup.kill").write_text("1")
    end = time.monotonic() + 10
    while "populated 1" in folder.joinpath("cgroup.events").read_text() and time.monotonic() < end:
        time.sleep(0.01)
    folder.joinpath("program").rmdir()
    folder.rmdir()


SUPERVISOR = """\
import os, sys
from ckptd.daemon.processes import Tree
open(os.path.join(sys.argv[1], "cgroup.procs"), "w").write("0")
tree = Tree()
go, ready = os.pipe()
child = os.fork()
if not child:
    os.read(go, 1)
    if not os.fork():
        os.setsid()
        if os.getuid() == 0:
            os.setuid(65534)
        print(os.getpid(), flush=True)
        os.execvp("sleep", ["sleep", "60"])
    os._exit(0)  # what is left is nobody's child: this process is no subreaper
tree.begin(child)
os.write(ready, b"x")
os.waitpid(child, 0)
stays = os.posix_spawn(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"], os.environ)
sys.stdin.readline()
print(tree.signal(9), flush=True)
"""


def test_in_a_scope_of_its_own_the_program_is_killed_with_all_that_escaped(scope):
    command = [sys.executable, "-c", SUPERVISOR, str(scope)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        escaped = int(process.stdout.readline())
        assert f"/{scope.name}/program" in Path(f"/proc/{escaped}/cgroup").read_text()
        process.communicate("go\n", timeout=20)
        assert process.returncode == 0  # it is in the scope, and not in the program's cgroup
    end = time.monotonic() + 10
    while str(escaped) in scope.joinpath("program", "cgroup.procs").read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_elsewhere_no_cgroup_is_touched():
    assert make_cell() is None


def test_nothing_is_said_where_all_end(monkeypatch):
    tree, loop = Tree(), Loop()
    said: list[str] = []
    over: list[bool] = []
    ignoring = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    sweep.Sweep(loop, tree, collect, said.append).begin(gentle=0.2, then=lambda: over.append(True))
    run(loop, over)
    assert said == []
    assert not Path(f"/proc/{process.pid}").exists()
    process.stdout.close()
    process.wait(10)

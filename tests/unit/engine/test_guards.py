"""What a replay lets commands, databases and libraries do to files."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from ckptd_agent import commands, guards, link

ROOT = Path(__file__).resolve().parents[3]
H5PY = """\
import os
class File:
    def __init__(self, name, mode="r", driver=None, libver=None, **more):
        self.filename, self.mode, self.driver, self.more = name, mode, driver, more
        if not (driver == "core" and more.get("backing_store") is False) and mode != "r":
            open(name, "w").close()
    def __bool__(self):
        return self.mode is not None
    def close(self):
        self.mode = None
"""


class Refused(BaseException):
    """Stands in for the end of the process."""


@pytest.fixture
def refusals(monkeypatch):
    said = []

    def refuse(why, *, damaged=False):
        said.append(why)
        raise Refused(why)

    monkeypatch.setattr(link, "refuse", refuse)
    return said


@pytest.fixture
def replay(tmp_path, monkeypatch):
    """The guards are up; the folder is the test's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("kept")
    guards.begin()
    yield tmp_path
    guards.end()


def in_python(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, for what is imported in mid-replay."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "agent"), str(folder)])
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(text)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )


HARMS = {
    "system": lambda: os.system("rm -rf out; mkdir -p out; echo more > new"),
    "shell": lambda: subprocess.run("rm -rf out; echo more >> new", shell=True),
    "words": lambda: subprocess.run(["sh", "-c", "rm -rf out; mv out new; ln -s out new; mkdir new"]),
    "popen": lambda: os.popen("rm -rf out; echo more > new").close(),
    "preexec_fn": lambda: subprocess.run(["touch", "new"], preexec_fn=os.getpid),
    "spawn": lambda: os.spawnlp(os.P_WAIT, "rm", "rm", "-rf", "out"),
    "posix_spawn": lambda: os.waitpid(os.posix_spawn("/bin/rm", ["rm", "-rf", "out"], os.environ), 0),
    "posix_spawnp": lambda: os.waitpid(os.posix_spawnp("touch", ["touch", "new"], os.environ), 0),
    "truncate": lambda: subprocess.run(["truncate", "-s", "0", "out/kept"]),
    "python": lambda: subprocess.run([sys.executable, "-c", "open('out/kept', 'w')"]),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_command_of_the_replay_changes_no_file(replay, harm):
    harm()
    assert os.listdir(".") == ["out"]
    assert Path("out/kept").read_text() == "kept"


def test_what_lies_in_shared_memory_is_a_file_too(replay):
    name = Path("/dev/shm") / f"ckptd-test-{os.getpid()}"
    os.system(f"echo more > {name}")
    assert not name.exists()


def test_a_command_that_reads_answers_as_ever(replay):
    assert subprocess.check_output(["cat", "out/kept"], text=True) == "kept"
    with os.popen("cat out/kept > /dev/null; echo done") as answer:
        assert answer.read() == "done\n"
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.communicate("there and back")[0] == "there and back"
    assert os.waitstatus_to_exitcode(os.system("exit 3")) == 3
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["false"], check=True)


def test_a_command_that_is_not_there_raises_as_ever(replay):
    with pytest.raises(FileNotFoundError) as caught:
        subprocess.run(["/no/such/command"])
    assert caught.value.errno == errno.ENOENT
    assert str(caught.value.filename) == "/no/such/command"


def test_a_command_has_the_callers_signal_mask(replay):
    def mask() -> str:
        return subprocess.check_output(["grep", "SigBlk", "/proc/self/status"], text=True).split()[1]

    assert int(mask(), 16) == 0
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        assert int(mask(), 16) == 1 << (signal.SIGUSR1 - 1)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_handler_that_raises_meanwhile_is_heard_when_the_command_is_over(replay):
    class AlarmError(Exception):
        pass

    def ring(*_):
        raise AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(AlarmError):
            os.system("sleep 0.3")
    finally:
        signal.signal(signal.SIGALRM, before)


def test_many_threads_may_start_commands(replay):
    found: list[str] = []

    def ask() -> None:
        found.append(subprocess.check_output("echo x >> new; echo 1", shell=True, text=True))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert found == ["1\n"] * 8
    assert not os.path.exists("new")


def test_behind_the_replay_commands_are_the_programs_own(tmp_path, monkeypatch):
    def starters():
        return [os.system, os.posix_spawn, vars(os)["_spawnvef"], vars(subprocess.Popen)["_execute_child"]]

    monkeypatch.chdir(tmp_path)
    before = starters()
    finders = sys.meta_path[:]
    guards.begin()
    subprocess.run(["touch", "new"])
    guards.end()
    assert starters() == before
    assert sys.meta_path == finders
    assert os.system("touch new") == 0
    assert subprocess.run(["rm", "new"]).returncode == 0
    status = subprocess.check_output(["grep", "NoNewPrivs", "/proc/self/status"], text=True)
    assert status.split()[1] == Path("/proc/self/status").read_text().split("NoNewPrivs:")[1].split()[0]


def test_a_forked_child_starts_commands_of_its_own(replay):
    pid = os.fork()
    if pid == 0:
        try:
            guards.end(in_child=True)
            os._exit(os.waitstatus_to_exitcode(os.system("touch made")))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.path.exists("made")


def test_a_command_that_lives_on_is_told_of(tmp_path, monkeypatch):
    said: list[Any] = []
    monkeypatch.setattr(link, "send", said.append)
    guards.begin()
    over = subprocess.Popen(["true"])
    over.wait()
    process = subprocess.Popen(["sleep", "30"])
    guards.end()
    process.kill()
    process.wait()
    assert [each.text for each in said] == [
        f"'sleep 30' (pid {process.pid}) runs since before the loop: it was started anew, and can't write to files"
    ]


# ---- where there is no Landlock ------------------------------------------------------------------


@pytest.fixture
def without_landlock(monkeypatch):
    def refused(name, *_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(commands, "_call", refused)


def test_without_landlock_a_command_refuses_the_resume(without_landlock, refusals, replay):
    with pytest.raises(Refused):
        os.system("rm -rf   out; mkdir -p out")
    assert len(refusals) == 1
    assert refusals[0].startswith(
        "the command 'rm -rf out; mkdir -p out' runs on the way to the checkpoint, and can't be kept from changing "
        "files here a second time: that takes Landlock"
    )
    assert os.path.exists("out/kept")


def test_without_landlock_what_plainly_reads_is_run(without_landlock, refusals, replay):
    assert subprocess.check_output(["uname", "-s"], text=True) == "Linux\n"
    with os.popen("uname -s") as answer:
        assert answer.read() == "Linux\n"
    subprocess.run(["git", "-C", ".", "rev-parse", "HEAD"], stderr=subprocess.DEVNULL)
    assert refusals == []


@pytest.mark.parametrize(
    ("words", "reads"),
    [
        (["git", "rev-parse", "HEAD"], True),
        (["/usr/bin/git", "-C", "x", "--no-pager", "log", "-1"], True),
        ("git describe --always --dirty", True),
        (["git", "diff", "--output=here"], False),
        (["git", "checkout", "x"], False),
        (["git"], False),
        (b"nvidia-smi --query-gpu=name", True),
        ("nvidia-smi > gpus.txt", False),
        ("hostname; rm x", False),
        ("echo $(rm x)", False),
        ("date\nrm x", False),
        ("A=1 hostname", False),
        (["sh", "-c", "hostname"], False),
        ([], False),
    ],
)
def test_what_plainly_reads(words, reads):
    assert commands._only_reads(words) is reads


# ---- databases and libraries ---------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    sqlite3 = pytest.importorskip("sqlite3")
    path = tmp_path / "runs.db"
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    connection.close()
    return path


@pytest.mark.parametrize(
    "statement", ["INSERT INTO t VALUES (2)", "UPDATE t SET a = 3", "DELETE FROM t", "DROP TABLE t"]
)
def test_rows_before_the_loop_refuse_the_resume(database, refusals, replay, statement):
    import sqlite3

    connection = sqlite3.connect(database)
    with pytest.raises(sqlite3.DatabaseError):  # the stand-in raises where the process would have ended
        connection.execute(statement)
    assert len(refusals) == 1
    assert f"writes into the table 't' of the database {database} on its way" in refusals[0]
    connection.close()


def test_a_database_that_is_attached_is_a_file_too(database, refusals, replay):
    import sqlite3

    connection = sqlite3.connect(":memory:")
    connection.execute("ATTACH ? AS other", (str(database),))
    connection.execute("CREATE TABLE mine (a)")
    connection.execute("INSERT INTO mine VALUES (1)")
    assert refusals == []
    with pytest.raises(sqlite3.DatabaseError):
        connection.execute("INSERT INTO other.t VALUES (2)")
    assert len(refusals) == 1
    connection.close()


def test_a_database_may_be_read_and_made_and_is_the_programs_own_in_the_end(database, refusals):
    import sqlite3

    guards.begin()
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE IF NOT EXISTS t (a)")
    connection.execute("CREATE TABLE IF NOT EXISTS u (a INTEGER PRIMARY KEY AUTOINCREMENT)")
    connection.execute("CREATE INDEX IF NOT EXISTS i ON t (a)")
    connection.execute("VACUUM")
    connection.execute("CREATE TEMP TABLE v AS SELECT * FROM t")
    connection.execute("INSERT INTO v VALUES (7)")
    assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]
    connection.commit()
    guards.end()
    connection.execute("INSERT INTO t VALUES (2)")
    assert connection.execute("SELECT a FROM t").fetchall() == [(1,), (2,)]
    connection.close()
    assert refusals == []


def test_what_is_imported_in_mid_replay_is_guarded_and_given_back(tmp_path):
    ended = in_python(
        """
        from ckptd_agent import guards
        guards.begin()
        import os, sys
        import torch, sqlite3, safetensors.numpy, safetensors.torch
        from torch import save
        from torch.serialization import save as other
        from sqlite3 import connect
        from safetensors import serialize_file
        assert "exec_module" not in vars(torch.serialization.__loader__)
        assert torch.serialization.__spec__.loader is torch.serialization.__loader__

        def everything():
            return [
                save, other, torch.save, torch.serialization.save, torch._C.ScriptModule.save,
                torch._C.PyTorchFileWriter, connect, sqlite3.connect, sqlite3.dbapi2.connect, serialize_file,
                safetensors.torch.serialize_file, safetensors.numpy.serialize_file,
            ]

        replaced = [hasattr(each, "__wrapped__") for each in everything()]
        save({}, "a"); other({}, "a"); torch.save({}, "a")
        torch.jit.script(torch.nn.Linear(1, 1)).save("a")
        safetensors.torch.save_file({"a": torch.ones(1)}, "a")
        there = os.listdir(".")
        guards.end()
        left = [hasattr(each, "__wrapped__") for each in everything()]
        save({}, "b")
        finders = [each for each in sys.meta_path if "ckptd" in repr(each)]
        print(all(replaced), any(left), there, os.listdir("."), finders)
        """,
        tmp_path,
    )
    assert ended.stdout == "True False [] ['b'] []\n", ended.stderr


@pytest.fixture
def hdf5(tmp_path):
    """An h5py that opens files as h5py does, as far as the guard can tell: it need not be installed."""
    for folder in ("h5py", "h5py/_hl"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("")
    (tmp_path / "h5py" / "_hl" / "files.py").write_text(H5PY)
    (tmp_path / "h5py" / "__init__.py").write_text("from ._hl.files import File")
    (tmp_path / "data.h5").write_text("kept")
    return tmp_path


HDF5 = """
from ckptd_agent import guards
from ckptd.errors import RefusedError
guards.begin()
import h5py
written, read = h5py.File("data.h5", "w", libver="latest"), h5py.File("data.h5")
appended = h5py.File("data.h5", mode="a", driver="sec2", page_buf_size=4)
ways = [(each.mode, each.driver, each.more) for each in (written, read, appended)]
appended.close()
{then}
try:
    guards.end()
except RefusedError as error:
    guards.libraries.end()
    guards.end()
    print(error)
print(ways, isinstance(read, h5py.File), open("data.h5").read())
"""


def test_an_hdf5_file_is_written_in_memory(hdf5):
    ended = in_python(HDF5.format(then="written.close()"), hdf5)

    assert ended.stdout.startswith(
        "[('w', 'core', {'backing_store': False}), ('r', None, {}), ('a', 'core', {'backing_store': False})]"
    ), ended.stderr
    assert ended.stdout.endswith("True kept\n"), ended.stderr
    assert "was open" not in ended.stdout


def test_an_hdf5_file_that_stays_open_refuses_the_resume(hdf5):
    ended = in_python(HDF5.format(then=""), hdf5)
    assert ended.stdout.startswith(
        "the HDF5 file data.h5 was open for writing at the checkpoint, and can't be carried over: open it each time"
    ), ended.stderr
    assert ended.stdout.endswith("True kept\n")

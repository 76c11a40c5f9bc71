"""What goes wrong around a real training: each time one line, the right status, and nothing lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import (
    Action,
    Committed,
    Line,
    LiveRun,
    Outcome,
    Said,
    compare,
    leftovers,
    run_ckptd,
    run_plain,
)

PROGRAM = """\
import sys, time
import torch
import scale

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.Dropout(0.1), torch.nn.Linear(512, 512))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
log = open("log.csv", "w", buffering=1)
for step in range(int(sys.argv[1])):
    loss = model(torch.randn(4, 64)).pow(2).mean() * scale.SCALE
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step} loss {loss.item():.9f}", flush=True)
    print(step, loss.item(), sep=",", file=log)
    time.sleep(0.01)
torch.save(model.state_dict(), "model.pt")
print("done")
"""
STEPS = "60"


class Place:
    """A program, the folder that it runs in, and a store."""

    def __init__(self, folder: Path, program: Path, text: str = PROGRAM) -> None:
        self.folder = folder
        self.program = program
        self.cwd = folder / "run"
        self.store = folder / "store"
        self.script = program / "train.py"
        self.write(text)

    def write(self, text: str = PROGRAM, scale: float = 1.0) -> None:
        self.program.mkdir(exist_ok=True)
        self.script.write_text(text)
        (self.program / "scale.py").write_text(f"SCALE = {scale}\n")

    @property
    def command(self) -> list[str | Path]:
        return [self.script, STEPS]

    def plain(self) -> Outcome:
        return run_plain(self.command, self.folder / "plain")

    def run(self, *options: str, **more) -> Outcome:
        return run_ckptd(
            more.pop("command", self.command), self.cwd, store=self.store, options=options, **more
        )

    def live(self, *options: str, **more) -> LiveRun:
        return LiveRun(self.command, self.cwd, store=self.store, options=options, **more)

    def checkpoints(self) -> list[Path]:
        found = self.store.glob("jobs/*/checkpoints/0*")
        return sorted(found, key=lambda path: (path.name[:12], path.stat().st_mtime_ns))


def hashes(*folders: Path) -> dict[str, str]:
    """Every file below the folders: what is to stay as it is."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def one_line(outcome: Outcome, status: int) -> str:
    """The only line of a run that says why there is none; nothing else was said or printed."""
    assert outcome.status == status, outcome.stderr.decode()
    assert outcome.stdout == b""
    (line,) = outcome.stderr.decode().splitlines()
    assert line.startswith("ckptd: ")
    return line


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the program, one for all tests: so it runs plain but once."""
    return tmp_path_factory.mktemp("program")


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Place:
    """A run with --every that was stopped in the middle; it has several checkpoints."""
    place = Place(tmp_path_factory.mktemp("trouble"), program)
    plain = place.plain()
    stop = Action(Line("^step 30 "), to="ckptd")
    # Between the periodic ones and the last lie steps enough for it to be a checkpoint of its own.
    stopped = place.run("--every", "8steps", "-v", actions=[stop])
    assert stopped.status == 75, stopped.stderr.decode()
    assert plain.stdout.startswith(stopped.stdout)
    assert len(place.checkpoints()) == 3
    shutil.copytree(place.store, place.folder / "kept" / "store")
    shutil.copytree(place.cwd, place.folder / "kept" / "run")
    return place


@pytest.fixture
def stopped(stopped_once: Place) -> Iterator[Place]:
    """The same for each test: whatever the one before has done to it."""
    for name in ("store", "run"):
        shutil.rmtree(stopped_once.folder / name)
        shutil.copytree(stopped_once.folder / "kept" / name, stopped_once.folder / name)
    yield stopped_once
    stopped_once.write()
    assert leftovers(stopped_once.store) == []


def rest(place: Place, resumed: Outcome, checkpoint: Path) -> list[str]:
    """How a run that went on from a checkpoint differs from the rest of the plain one."""
    plain = place.plain()
    lines = plain.stdout.splitlines(keepends=True)[int(checkpoint.name[:12]) :]
    return compare(plain.saying(b"".join(lines)), resumed)


# ---- damage -------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def file_in(checkpoint: Path, name: str) -> Path:
    """A file of a checkpoint: 'tensors' is the one with what was new in it."""
    if name == "tensors":
        return checkpoint / f"tensors-{checkpoint.name[13:]}.safetensors"
    return next(checkpoint.glob(f"{name}*"))


DAMAGE = [("tensors", flip), ("manifest.json", cut), ("graph.msgpack", flip)]


def test_damaged_checkpoints_are_said_and_an_older_one_taken(stopped):
    oldest, middle, newest = stopped.checkpoints()
    flip(file_in(newest, "tensors"))
    cut(middle / "manifest.json")
    again = stopped.run()
    said = [line for line in again.stderr.decode().splitlines() if "is damaged" in line]
    for path, line in zip((newest, middle), said, strict=True):
        assert line.startswith(f"ckptd: checkpoint {path.name} is damaged (")
        assert line.endswith(f"going back to step {int(oldest.name[:12])}")
    assert rest(stopped, again, oldest) == [], again.stderr.decode()


@pytest.mark.parametrize(("file", "damage"), DAMAGE, ids=["tensors", "manifest", "graph"])
def test_where_no_checkpoint_is_whole_nothing_is_changed(stopped, file, damage):
    *others, newest = stopped.checkpoints()
    for path in others:
        shutil.rmtree(path)
    damage(file_in(newest, file))
    before = hashes(stopped.cwd, newest)
    ended = stopped.run()
    assert ended.status == 13
    line = ended.stderr.decode().splitlines()[-1]
    assert str(newest / file) in line or newest.name in line
    assert line.endswith("start over with --fresh")
    assert hashes(stopped.cwd, newest) == before


# ---- who and what goes on -----------------------------------------------------------------------


def test_changed_sources(stopped):
    *_, newest = stopped.checkpoints()
    before = hashes(stopped.cwd, newest)
    # The order of its factors is another text, but no other number.
    changed = PROGRAM.replace("optimizer.zero_grad()", "optimizer.zero_grad(set_to_none=True)")
    stopped.write(changed)
    line = one_line(stopped.run(), 14)
    assert str(stopped.script) in line
    assert "--fresh" in line
    assert "--allow-changed" in line
    assert hashes(stopped.cwd, newest) == before
    allowed = stopped.run("--allow-changed")
    assert f"{stopped.script} changed since" in allowed.stderr.decode()
    stopped.write()
    assert rest(stopped, allowed, newest) == [], allowed.stderr.decode()


def test_a_module_beside_the_script_has_changed_and_fresh_starts_over(stopped):
    stopped.write(scale=2.0)
    assert "scale.py changed since the checkpoint" in one_line(stopped.run(), 14)
    stopped.write()
    fresh = stopped.run("--fresh", "-q")
    assert compare(stopped.plain(), fresh) == []
    assert fresh.stderr == b""


def test_a_finished_job_with_a_name(tmp_path, program):
    place = Place(tmp_path, program)
    options = ("--name", "mine")
    first = place.run(*options, "-v", command=[place.script, "3"])
    assert first.status == 0
    assert first.stdout.endswith(b"done\n")
    said = first.stderr.decode()
    assert "attempt 1 of job" in said
    assert "the agent in process" in said
    before = hashes(place.cwd)
    assert one_line(place.run(*options, command=[place.script, "3"]), 14) == (
        "ckptd: job 'mine' has finished: start it over with --fresh, or choose another --name"
    )
    assert hashes(place.cwd) == before


# ---- the supervisor is killed -------------------------------------------------------------------


def test_a_locked_job_and_a_killed_supervisor(tmp_path, program):
    place = Place(tmp_path, program)
    plain = place.plain()
    with place.live("--every", "10steps") as run:
        run.act(Action(Committed(place.store), signal=0))
        locked = one_line(place.run(), 11)
        assert "is held by process" in locked
        assert "--name" in locked
        run.act(Action(Line("^step 20 "), signal=signal.SIGKILL, to="ckptd"))
        orphan = one_line(place.run(), 11)
        assert f"still runs as process {run.processes[0].pid}" in orphan
        alone = run.wait()
    assert compare(plain, alone, status=-signal.SIGKILL) == []
    # Nobody saw its end, but it left word of it: it is not started again.
    again = place.run()
    assert (again.status, again.stdout) == (0, b"")
    assert "came to its end while its ckptd was gone" in again.stderr.decode()
    assert leftovers(place.store) == []


# ---- the store ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--no-such-flag"], 2, ["--no-such-flag", "ckptd run --help"]),
        (["--store", "a-file"], 10, ["a-file", "--store"]),
        (["--store", "/proc/store"], 10, ["/proc/store", "--store"]),
    ],
)
def test_what_can_not_be_begun(tmp_path, program, options, status, words):
    place = Place(tmp_path, program)
    place.cwd.mkdir()
    (place.cwd / "a-file").write_text("mine")
    line = one_line(place.run(*options), status)
    assert all(word in line for word in words), line
    assert hashes(place.cwd).keys() == {str(place.cwd / "a-file")}


def can_mount() -> bool:
    """Whether a file system can be mounted here for one process and those it starts."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        os.geteuid() == 0
        and shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


needs_mount = pytest.mark.skipif(not can_mount(), reason="needs root and mount namespaces")


def mounted(folder: Path, options: str, then: str = "true") -> list[str]:
    """The words before a command that see a small file system at ``folder``, which goes with them."""
    folder.mkdir()
    script = f'mount -t tmpfs -o {options} tmpfs "$0" && {then} && exec "$@"'
    return ["unshare", "-m", "sh", "-ec", script, str(folder)]


@needs_mount
def test_a_store_on_a_read_only_disk(tmp_path, program):
    place = Place(tmp_path, program)
    line = one_line(place.run(before=mounted(place.store, "ro,mode=0700")), 10)
    assert str(place.store) in line
    assert "--store" in line


@needs_mount
def test_a_full_disk(tmp_path, program):
    """The dump fails and training goes on; with room again the next one is good."""
    place = Place(tmp_path, program)
    disk, place.store = place.store, place.store / "store"
    fill = 'dd if=/dev/zero of="$0"/filler bs=1024 count=3700 2>/dev/null'
    with place.live(before=mounted(disk, "size=4m,mode=0700", fill)) as run:
        run.act(Action(Line("^step 5 ")))
        run.act(Action(Said("could not save: .*has no room left"), signal=0, same=True))
        inside = Path(f"/proc/{run.processes[0].pid}/root{disk}")
        assert list(inside.glob("store/jobs/*/checkpoints/*")) == []
        (inside / "filler").unlink()
        run.act(Action(Line("^step 25 "), same=True))
        ended = run.wait()
    assert compare(place.plain(), ended) == [], ended.stderr.decode()
    assert len(ended.processes) == 2, ended.stderr.decode()
    failed, saved, low, resumed = ended.stderr.decode().splitlines()
    assert failed.endswith("make room or name another --store; training goes on")
    assert "SIGTERM: saved step" in saved
    assert "the disk runs low: the next checkpoint may need" in low
    assert "resumed at step" in resumed
    assert leftovers(place.store) == []


# ---- a program that goes another way ------------------------------------------------------------

FICKLE = {
    "ends": """\
import os
if os.path.exists("seen"):
    print("nothing to do")
    sys.exit(0)
open("seen", "w").close()
train(100)
""",
    "trains elsewhere": """\
import os
if os.path.exists("seen"):
    for step in range(3):
        one(step)
open("seen", "w").close()
train(100)
""",
    "other indices": """\
import os
class Sampler:
    def __len__(self):
        return 100
    def __iter__(self):
        yield from range(5, 105) if os.path.exists("seen") else range(100)
loader = torch.utils.data.DataLoader(torch.ones(200, 4), sampler=Sampler())
for step, batch in enumerate(loader):
    one(step)
    if step == 10:
        open("seen", "w").close()
""",
    "a lock": """\
import threading
locks = []
for step in range(100):
    one(step)
    if step == 3:
        locks.append(threading.Lock())
""",
}
SENTENCES = {
    "ends": "the program ended without coming to the place of the checkpoint",
    "trains elsewhere": "the program trains at ",
    "other indices": "a DataLoader's sampler gives other indices than in the first run (of ",
    "a lock": "an object of type ",
}
FICKLE_TRAIN = """\
import sys, time
import torch
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.01)


def one(step):
    optimizer.zero_grad()
    model(torch.ones(4)).sum().backward()
    optimizer.step()
    print("step", step, flush=True)
    time.sleep(0.01)


def train(steps):
    for step in range(steps):
        one(step)


"""


@pytest.mark.parametrize("name", FICKLE)
def test_a_program_that_goes_another_way_is_refused(tmp_path, name):
    place = Place(tmp_path, tmp_path / "program", FICKLE_TRAIN + FICKLE[name])
    first = place.run("--every", "5steps", actions=[Action(Line("step 17$"), to="ckptd")])
    assert first.status == 75, first.stderr.decode()
    *_, older, newest = place.checkpoints()
    before = hashes(place.cwd, *place.checkpoints())
    refused = place.run()
    assert refused.status == 14
    assert refused.stdout == b""
    begun, line = refused.stderr.decode().splitlines()
    assert "goes on from step" in begun
    assert f"step {int(newest.name[:12])} can't be resumed, nothing was changed: {SENTENCES[name]}" in line
    assert "start over with --fresh, or go on from step" in line
    assert line.endswith(f"with --from {int(older.name[:12])}")
    assert hashes(place.cwd, *place.checkpoints()) == before
    assert leftovers(place.store) == []
    if name == "ends":  # the way out that it names is one, as far as the store goes
        step = str(int(older.name[:12]))
        assert f"goes on from step {step} " in place.run("--from", step).stderr.decode()


SUMMED = """\
total = 0
for step in range(200):
    total = total + model(torch.ones(4)).sum()
    print("step", step, flush=True)
    time.sleep(0.01)
total.backward()
"""


def test_a_graph_from_before_the_interruption_is_not_gone_through(tmp_path):
    place = Place(tmp_path, tmp_path / "program", FICKLE_TRAIN + SUMMED)
    refused = place.run("--grace", "2s", actions=[Action(Line("step 17$"))])
    assert refused.status == 14, refused.stderr.decode()
    *_, resumed, line = refused.stderr.decode().splitlines()
    assert "resumed at step 0" in resumed
    assert "the job can't go on from step 0: the program goes backward through a graph" in line
    assert line.endswith("start over with --fresh")
    assert len(refused.processes) == 2, refused.stderr.decode()
    assert leftovers(place.store) == []


# ---- the command line ---------------------------------------------------------------------------


def median_seconds(*command: str) -> float:
    def once() -> float:
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun

    return statistics.median(once() for _ in range(5))


def test_help_is_there_at_once():
    floor = median_seconds(sys.executable, "-c", "pass")
    taken = median_seconds(sys.executable, "-m", "ckptd", "--help")
    # A machine on which Python itself takes long is not ckptd's.
    assert taken - floor < 0.25, f"{taken:.3f} s, of which Python alone {floor:.3f} s"
    assert taken < 0.3 or floor > 0.1


def test_help_and_run_import_no_torch():
    code = "import sys, ckptd.daemon.supervisor, ckptd.cli.run, ckptd.cli.main\nsys.exit('torch' in sys.modules)\n"
    subprocess.run([sys.executable, "-c", code], check=True)

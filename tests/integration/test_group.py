"""A signal for all processes of the job at once, workers and helpers included: it is saved, and goes on exactly."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness import Action, Line, LiveRun, Outcome, Said, compare, leftovers, run_plain
from harness.moments import Moment
from harness.outcome import environment

TRAIN = """\
import multiprocessing as mp
import random
import sys
import time
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

KIND, PERSISTENT = sys.argv[1], sys.argv[2] == "persistent"


class Data(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, i):
        time.sleep(0.004)
        return torch.randn(4) * random.random() + i


def begin(worker):
    time.sleep(0.15)


def main():
    torch.manual_seed(0)
    random.seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))
    opt = torch.optim.AdamW(model.parameters(), 0.01)
    options = dict(num_workers=2, worker_init_fn=begin, multiprocessing_context=KIND)
    loader = DataLoader(Data(), batch_size=4, shuffle=True, persistent_workers=PERSISTENT, **options)
    for epoch in range(3):
        print("epoch", epoch)
        for i, x in enumerate(loader):
            loss = model(x).pow(2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            print("step", epoch, i, loss.item())
            time.sleep(0.02)
        total = 0.0
        for k in range(12):
            total += model(torch.randn(6, 4)).sum().item()
            print("evaluated", epoch, k, total)
            time.sleep(0.02)
    print([p.sum().item() for p in model.parameters()], torch.rand(1).item())


if __name__ == "__main__":
    main()
"""
POOL = """\
import multiprocessing as mp
import time
import torch

torch.manual_seed(0)
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.Adam([w], 0.1)
with mp.get_context("fork").Manager() as manager, mp.get_context("fork").Pool(2) as pool:
    shared = manager.dict(sum=0.0)
    for i in range(20):
        x = torch.tensor(pool.map(abs, [i, -i, 2, i + 1]), dtype=torch.float32)
        loss = ((w - x) ** 2).sum() * torch.rand(1).item()
        opt.zero_grad()
        loss.backward()
        opt.step()
        print("step", i, loss.item())
        time.sleep(0.03)
print(w.tolist())
"""
COMPILING = """\
import time
import torch
from torch._inductor.compile_worker.subproc_pool import SubprocPool

torch.manual_seed(0)
w = torch.zeros(4, requires_grad=True)
opt = torch.optim.Adam([w], 0.1)
pool = SubprocPool(1)
for i in range(20):
    loss = ((w - pool.submit(abs, -i).result()) ** 2).sum() * torch.rand(1).item()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print("step", i, loss.item())
    time.sleep(0.03)
pool.shutdown()
print(w.tolist())
"""
ENDINGS = """\
import multiprocessing as mp
import os
import signal
import sys
import time
import torch


def wait(ready):
    ready.set()
    time.sleep(60)


def busy(writer):
    os.write(writer, b"x")
    time.sleep(60)


def handled(ready):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    wait(ready)


def main():
    for method in ("fork", "spawn", "forkserver"):
        context = mp.get_context(method)
        for target in (wait, handled):
            ready = context.Event()
            process = context.Process(target=target, args=(ready,))
            process.start()
            ready.wait()
            process.terminate()
            process.join(30)
            print(method, target.__name__, process.exitcode)
    reader, writer = os.pipe()
    pool = mp.get_context("fork").Pool(2)
    pool.map_async(busy, [writer] * 2, chunksize=1)
    while len(os.read(reader, 1)) + len(os.read(reader, 1)) < 2:
        pass
    pool.terminate()
    pool.join()
    print([worker.exitcode for worker in pool._pool])
    child = os.fork()
    if not child:
        time.sleep(60)
    os.kill(child, signal.SIGTERM)
    print(os.waitpid(child, 0)[1], signal.getsignal(signal.SIGTERM), signal.signal.__module__)


if __name__ == "__main__":
    main()
"""


class Place:
    """A folder for runs and their store, and what of them has run."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.store, self.programs = folder, folder / "store", programs
        self.everyone: set[psutil.Process] = set()

    def program(self, text: str) -> Path:
        """In the same file for all tests, so that its plain run is done once."""
        path = self.programs / f"{zlib.crc32(text.encode()):08x}.py"
        path.write_text(text)
        return path

    def strike(self, run: LiveRun, moment: Moment, how: str, number: int = signal.SIGTERM) -> None:
        """Signal all processes of the job when a moment has come: its group, or each; 'all': ckptd too."""
        run.act(Action(moment, signal=0, same=isinstance(moment, Said)))
        job = run.processes[-1]
        below = job.children(recursive=True)
        self.everyone.update(below)
        if how == "group":
            os.killpg(job.pid, number)
            return
        parent = job.parent()
        for each in [*below, job, *([parent] if parent is not None and how == "all" else [])]:
            try:
                each.send_signal(number)
            except psutil.NoSuchProcess:
                continue


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture
def place(tmp_path: Path, programs: Path) -> Iterator[Place]:
    place = Place(tmp_path, programs)
    yield place
    assert [each for each in place.everyone if each.is_running()] == []
    assert leftovers(place.store) == []


EPOCH, MIDDLE, BETWEEN = Line("^epoch 1"), Line("^step 1 2 "), Line("^evaluated 0 5 ")


AGAIN = Said("reached the training process", n=2)


@pytest.mark.parametrize(
    ("persistent", "strikes"),
    [
        pytest.param(  # while workers start
            "",
            [(BETWEEN, "each", signal.SIGTERM), (EPOCH, "each", signal.SIGTERM)],
            marks=pytest.mark.nightly,
        ),
        (
            "persistent",
            [
                (BETWEEN, "group", signal.SIGTERM),
                (MIDDLE, "group", signal.SIGUSR2),
                (AGAIN, "each", signal.SIGTERM),  # while a dump is under way
            ],
        ),
    ],
)
def test_a_signal_for_all_is_saved_and_gone_on_from_exactly(place, persistent, strikes):
    command = [place.program(TRAIN), "fork", persistent]
    plain = run_plain(command, place.folder / "plain")
    options = ["-v", "--grace", "20s", "--notice-signals", "TERM,USR2"]
    with LiveRun(command, place.folder / "under", store=place.store, options=options) as run:
        for moment, how, number in strikes:
            place.strike(run, moment, how, number)
        outcome = run.wait()
    assert compare(plain, outcome) == [], outcome.stderr.decode()
    said = outcome.stderr.decode()
    saved = len(re.findall("SIG(?:TERM|USR2): saved step", said))
    assert saved == sum(isinstance(moment, Line) for moment, _, _ in strikes), said
    assert len(outcome.processes) == saved + 1, said


@pytest.mark.nightly
def test_workers_that_cannot_be_followed_live_too_and_training_goes_on(place):
    command = [place.program(TRAIN), "forkserver", ""]
    plain = run_plain([command[0], "fork", ""], place.folder / "plain")
    with LiveRun(command, place.folder / "under", store=place.store) as run:
        place.strike(run, MIDDLE, "each")
        outcome = run.wait()
    assert compare(plain, outcome) == [], outcome.stderr.decode()
    assert b"could not save: DataLoader workers that are not started by fork" in outcome.stderr


def test_everything_with_ckptd_among_it(place):
    """As a container's or a unit's end: the same command goes on."""
    command = [place.program(TRAIN), "fork", ""]
    plain = run_plain(command, place.folder / "plain")
    under = place.folder / "under"
    with LiveRun(command, under, store=place.store) as run:
        place.strike(run, MIDDLE, "all")
        first = run.wait()
    assert first.status == 75, first.stderr.decode()
    with LiveRun(command, under, store=place.store) as run:
        assert compare(plain, first.then(run.wait())) == []


@pytest.mark.nightly
def test_a_pool_and_a_manager_live_through_it(place):
    command = [place.program(POOL)]
    plain = run_plain(command, place.folder / "plain")
    with LiveRun(command, place.folder / "under", store=place.store) as run:
        place.strike(run, Line("^step 8 "), "group")
        outcome = run.wait()
    assert compare(plain, outcome) == [], outcome.stderr.decode()


@pytest.mark.nightly
def test_compile_workers_live_through_it(place):
    command = [place.program(COMPILING)]
    plain = run_plain(command, place.folder / "plain")
    with LiveRun(command, place.folder / "under", store=place.store) as run:
        run.act(Action(Line("^step 4 "), signal=0))
        below = run.processes[-1].children(recursive=True)
        assert below
        assert all(catches(each.pid, signal.SIGTERM) for each in below)
        place.strike(run, Said("", n=0), "each")
        outcome = run.wait()
    assert compare(plain, outcome) == [], outcome.stderr.decode()
    assert b"SIGTERM: saved step " in outcome.stderr


def test_what_ends_helpers_in_the_ordinary_way_ends_them_as_ever(place):
    command = [place.program(ENDINGS)]
    plain = run_plain(command, place.folder / "plain")
    with LiveRun(command, place.folder / "under", store=place.store) as run:
        outcome = run.wait()
    assert compare(plain, outcome) == [], outcome.stderr.decode()


def test_without_ckptd_a_signal_for_all_ends_all_at_once(place):
    command = [place.program(TRAIN), "fork", ""]
    with LiveRun(command, place.folder / "under", store=place.store) as run:
        run.act(Action(MIDDLE, signal=signal.SIGKILL, to="ckptd"))
        job = run.job()
        assert job is not None
        until(lambda: page_word(job.pid, 1) == 0)
        workers = [each for each in job.children(recursive=True) if each.name() == "pt_data_worker"]
        os.killpg(job.pid, signal.SIGTERM)
        until(lambda: not any(map(runs, [*workers, job])), seconds=3)  # torch's own watch takes 5 s
    for path in leftovers(place.store):  # of a ckptd that was killed
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    line = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")
    )
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def page_word(pid: int, word: int) -> int:
    """What a training process tells its helpers: see ckptd_agent.notice."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(path).startswith("/memfd:ckptd-notice"):
                return int(struct.unpack_from("=q", path.read_bytes(), 8 * word)[0])
        except FileNotFoundError:
            continue
    raise AssertionError("it has no page")


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_ctrl_c_at_a_terminal_saves_and_stops_the_job(place):
    """The terminal's SIGINT goes to ckptd, in whose place the job is in a group of its own."""
    command = [place.program(TRAIN), "fork", ""]
    plain = run_plain(command, place.folder / "plain")
    under = place.folder / "under"
    under.mkdir()
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "ckptd", "run", "--store", place.store, "--", sys.executable, *command]
    with (place.folder / "out").open("w+b") as out:
        process = subprocess.Popen(
            words, cwd=under, env=environment(), stdin=slave, stdout=out, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        try:
            until(lambda: b"\nstep 1 2 " in (place.folder / "out").read_bytes())
            place.everyone.update(psutil.Process(process.pid).children(recursive=True))
            os.write(master, b"\x03")
            assert process.wait(30) == 75, os.read(master, 65536).decode()
        finally:
            os.close(master)
            for each in (
                psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            ):
                each.kill()
            process.kill()
            process.wait()
        out.seek(0)
        first = Outcome(75, out.read(), b"", {})
    with LiveRun(command, under, store=place.store) as run:
        assert compare(plain, first.then(run.wait())) == []

"""``ckptd run`` as the first process of a container: a PID namespace with a /proc of its own.

Such a process gets the orphans of all others, no signal that it has no handler for, and all that a container is
told: Docker and Kubernetes signal it alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.outcome import environment

HERE = Path(__file__).parent
FAKE = HERE / "supervisor" / "fake_agent.py"
DEADLINE = 60.0
STOPPED = 75

AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
CONTAINER = ["unshare", *AS_ROOT, "--pid", "--fork", "--mount-proc", "--kill-child"]


def _may() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _may(), reason="needs PID namespaces (unshare)")

ORPHANS = """
import os, subprocess, sys, time
for number in range(40):
    subprocess.run(["sh", "-c", "sleep 0.0%d & exit 0" % (number % 10)], check=True)
subprocess.run(["sh", "-c", "(trap '' HUP; exec setsid sleep 600) & exit 0"], check=True)

def processes():
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                before, _, after = file.read().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since
        state, parent = after.split()[:2]
        yield before.partition("(")[2], state, int(parent)

end = time.monotonic() + 20
while [name for name, state, parent in processes() if state == "Z" or (name == "sleep" and parent != 1)] or len(
    [name for name, state, parent in processes() if name == "sleep"]
) != 1:
    if time.monotonic() > end:
        sys.exit(f"not reaped: {list(processes())}")
    time.sleep(0.01)
with open("/proc/1/cmdline") as file:
    print("first:", "ckptd" in file.read(), "mine:", os.getpid(), flush=True)
sys.exit(7)
"""

TRAINING = """
import time, torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.Adam(model.parameters())
loader = DataLoader(TensorDataset(torch.randn(160, 8)), batch_size=4, shuffle=True, num_workers=2)
print("ready")
for epoch in range(6):
    for (x,) in loader:
        loss = (model(x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(epoch, f"{loss.item():.8f}")
        time.sleep(0.005)
"""


class Container:
    """A container whose first process is ``ckptd run``."""

    def __init__(self, folder: Path, flags: list[str], command: list[str], fake: bool) -> None:
        env = environment({"CKPTD_RESTART_DELAY": "0.05s"})
        if fake:
            env["CKPTD_AGENT_PATH"] = str(FAKE.parent / "stub")
        run = [sys.executable, "-m", "ckptd", "run", "--store", str(folder / "store"), *flags]
        self.outer = subprocess.Popen(
            [*CONTAINER, *run, "--", *command],
            cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self._texts = [bytearray(), bytearray()]
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in zip((self.outer.stdout, self.outer.stderr), self._texts, strict=True)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, into: bytearray) -> None:
        while data := os.read(stream.fileno(), 65536):
            into += data

    @property
    def out(self) -> list[str]:
        return self._texts[0].decode().splitlines()

    @property
    def err(self) -> str:
        return self._texts[1].decode()

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + DEADLINE
        while not (value := condition()):
            assert time.monotonic() < end, f"{what} did not come\n{self.out}\n{self.err}"
            time.sleep(0.005)
        return value

    def line(self, text: str) -> None:
        self.until(lambda: text in self.out, text)

    def first(self) -> psutil.Process:
        """ckptd, as it is seen from outside."""
        return self.until(lambda: psutil.Process(self.outer.pid).children(), "the first process")[0]

    def program(self) -> psutil.Process:
        return self.until(lambda: self.first().children(), "the program")[0]

    def wait(self) -> int:
        status = self.outer.wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)  # to its end: nobody else holds the pipes
            assert not reader.is_alive()
        return status

    def end(self) -> None:
        if self.outer.poll() is None:
            for process in psutil.Process(self.outer.pid).children():
                process.kill()  # and with it all that are in there
            self.outer.kill()
        self.wait()
        for stream in (self.outer.stdout, self.outer.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    begun: list[Container] = []

    def begin(*command: str | Path, flags: list[str] | None = None, fake: bool = False) -> Container:
        begun.append(Container(tmp_path, flags or [], [str(word) for word in command], fake))
        return begun[-1]

    yield begin
    for one in begun:
        one.end()


def test_orphans_are_reaped_and_the_status_is_the_jobs(start, tmp_path):
    (tmp_path / "train.py").write_text(ORPHANS)
    run = start(sys.executable, "train.py")
    assert run.wait() == 7, run.err
    assert run.out[0].startswith("first: True mine: ")


def test_signals_are_passed_on_to_a_program_out_of_reach(start):
    run = start(
        "sh", "-c", "trap 'echo usr1' USR1; trap 'echo hup' HUP; trap 'echo term; exit 3' TERM\n"
        "echo ready; while :; do sleep 0.05; done",
    )  # fmt: skip
    run.line("ready")
    for number, word in ((signal.SIGUSR1, "usr1"), (signal.SIGHUP, "hup"), (signal.SIGTERM, "term")):
        run.first().send_signal(number)
        run.line(word)
    assert run.wait() == 3


def test_a_death_by_a_signal_is_told_as_by_a_shell(start):
    run = start("sh", "-c", "echo ready; exec sleep 600")
    run.line("ready")
    run.first().send_signal(signal.SIGTERM)  # the program is not the first process: its default action holds
    assert run.wait() == 128 + signal.SIGTERM


def test_sigterm_before_ckptd_is_ready(start, tmp_path):
    """No default action would end it."""
    slow = tmp_path / "python3"  # ckptd asks which Python this is, and waits
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    run = start(slow, "train.py")
    run.until(lambda: run.first().children(), "the question")
    began = time.monotonic()
    run.first().send_signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5
    assert "Traceback" not in run.err


def test_an_interrupted_attempt_leaves_nothing(start):
    run = start(sys.executable, FAKE, "40", "child=yes", fake=True)
    run.line("5")
    program = run.program()
    helper = next(each for each in program.children() if "sleep" in " ".join(each.cmdline()))
    program.terminate()
    run.until(lambda: "resumed at step" in run.err, "the resume")
    assert not program.is_running()
    assert not helper.is_running()
    assert run.wait() == 0
    assert run.out == [str(number) for number in range(1, 41)]


def test_sigterm_saves_and_another_container_goes_on(start, tmp_path):
    (tmp_path / "train.py").write_text(TRAINING)
    words = [sys.executable, "train.py"]
    run = start(*words)
    run.line("ready")
    plain = subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        run.until(lambda: len(run.out) > 20, "some steps")
        run.first().send_signal(signal.SIGTERM)
        assert run.wait() == STOPPED, run.err
        again = start(*words)
        expected = plain.communicate(timeout=DEADLINE)[0].splitlines()
        assert again.wait() == 0, again.err
    finally:
        plain.kill()
        plain.wait()
    assert len(expected) == 241
    assert run.out + again.out == expected

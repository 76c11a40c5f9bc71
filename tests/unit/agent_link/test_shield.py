"""Who may end a helper of the training process, and when: real processes, and signals from where they come from."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TRAINER = """\
import ctypes, os, signal, subprocess, sys, time
sys.path.insert(0, AGENT)
from ckptd_agent import disguise, gate, notice, shield

mode = sys.argv[1]
gate.claim()
shield.prepare(notice.begin())
notice.linked(mode != "nobody")
if mode == "handler":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(33))

def helper():
    notice.forget()
    shield.put_on([signal.SIGTERM])
    if mode == "late":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(34))
    print(os.getpid(), flush=True)
    if mode == "stuck":
        ctypes.PyDLL(None).sleep(60)  # and holds the GIL
    elif mode == "grandchild":
        child = os.fork()
        if not child:
            print(os.getpid(), flush=True)  # and the helper's code has not been told of the fork
            time.sleep(60)
    elif mode == "command":
        print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
    time.sleep(60)
    os._exit(0)

child = os.fork()
if not child:
    helper()
for line in sys.stdin:
    exec(line)
"""


class Trainer:
    """A process with a page and one helper; obeys lines of Python."""

    def __init__(self, mode: str) -> None:
        text = TRAINER.replace("AGENT", repr(str(ROOT / "agent")))
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.helper = int(self.answer())

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def do(self, line: str) -> str:
        """Have it run a line and print something."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.answer().strip()

    def status(self) -> int:
        """How its helper ends; waits for that."""
        return int(self.do("print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)"))


@pytest.fixture
def start() -> Iterator[type[Trainer]]:
    made: list[Trainer] = []

    class Made(Trainer):
        def __init__(self, mode: str) -> None:
            super().__init__(mode)
            made.append(self)

    yield Made
    for each in made:
        try:
            os.killpg(each.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        finally:
            each.process.wait(10)
            for stream in (each.process.stdin, each.process.stdout):
                if stream is not None:
                    stream.close()


def gone(pid: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_the_code_is_what_its_source_says():
    from ckptd_agent import native

    source = (ROOT / "agent" / "native" / "shield.c").read_bytes()
    assert hashlib.sha256(source).hexdigest() == native.SOURCE  # else: scripts/shield.py
    assert set(native.CODE) == {"x86_64", "aarch64"}


@pytest.mark.parametrize(
    ("mode", "status"), [("watched", -15), ("stuck", -15), ("handler", 33), ("late", 34), ("nobody", -15)]
)
def test_its_parent_ends_a_helper_at_once(start, mode, status):
    trainer = start(mode)
    began = time.monotonic()
    trainer.do("print(os.kill(child, signal.SIGTERM), flush=True)")
    assert trainer.status() == status
    assert time.monotonic() - began < 0.8


def test_without_a_supervisor_a_signal_from_outside_does_what_it_does(start):
    trainer = start("nobody")
    began = time.monotonic()
    os.kill(trainer.helper, signal.SIGTERM)
    assert trainer.status() == -signal.SIGTERM
    assert time.monotonic() - began < 0.8


@pytest.mark.parametrize(("mode", "status"), [("watched", -15), ("stuck", -15), ("handler", 33)])
def test_a_signal_for_a_helper_alone_has_its_effect_a_second_later(start, mode, status):
    trainer = start(mode)
    began = time.monotonic()
    os.kill(trainer.helper, signal.SIGTERM)
    assert trainer.status() == status
    assert 0.9 < time.monotonic() - began < 3


@pytest.mark.parametrize("mode", ["watched", "stuck", "late"])
def test_while_a_notice_stands_it_lives_and_when_that_is_over_it_goes_on(start, mode):
    trainer = start(mode)
    os.kill(trainer.helper, signal.SIGTERM)
    trainer.do("print(notice.stands(), flush=True)")
    assert not gone(trainer.helper, 1.3)
    trainer.do("print(notice.over(), flush=True)")
    assert not gone(trainer.helper, 1.3)


def test_when_the_supervisor_goes_meanwhile_the_signal_has_its_effect(start):
    trainer = start("watched")
    trainer.do("print(notice.stands(), flush=True)")
    os.kill(trainer.helper, signal.SIGTERM)
    trainer.do("print(notice.linked(False), flush=True)")
    assert trainer.status() == -signal.SIGTERM


@pytest.mark.parametrize("mode", ["watched", "grandchild"])
def test_it_does_not_outlive_the_training_process(start, mode):
    trainer = start(mode)
    pids = [trainer.helper, *([int(trainer.answer())] if mode == "grandchild" else [])]
    trainer.do("print(notice.stands(), flush=True)")
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    assert not any(gone(pid, 0.2) for pid in pids)
    trainer.process.kill()
    assert all(gone(pid, 2) for pid in pids)


def test_an_orphan_is_ended_at_once(start):
    trainer = start("watched")
    trainer.process.kill()
    trainer.process.wait(10)
    os.kill(trainer.helper, signal.SIGTERM)
    assert gone(trainer.helper, 0.8)


def test_what_a_helper_executes_has_nothing_of_it(start):
    trainer = start("command")
    command = int(trainer.answer())
    trainer.do("print(notice.stands(), flush=True)")
    os.kill(command, signal.SIGTERM)
    assert gone(command, 0.8)


def test_a_python_that_is_started_anew_joins(start):
    trainer = start("watched")
    code = (
        "import os, sys, time; sys.path.insert(0, {!r}); from ckptd_agent import shield; "
        "shield.join(int(os.environ['CKPTD_CLAIMED'])); print(os.getpid(), flush=True); time.sleep(60)"
    ).format(str(ROOT / "agent"))
    trainer.do("os.kill(child, signal.SIGKILL); os.waitpid(child, 0); print()")
    pid = int(
        trainer.do(
            f"p = subprocess.Popen([sys.executable, '-c', {code!r}], stdout=subprocess.PIPE); "
            "print(int(p.stdout.readline()), flush=True)"
        )
    )
    trainer.do("print(notice.stands(), flush=True)")
    os.kill(pid, signal.SIGTERM)
    assert not gone(pid, 0.5)
    assert trainer.do("p.terminate(); print(p.wait(), flush=True)") == "-15"

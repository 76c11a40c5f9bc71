"""Job control, on a real terminal (a pty): who has the foreground, Ctrl-C, Ctrl-Z, a program that reads."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent


class Session:
    """A session leader (as a shell is) that runs ``ckptd run`` as the terminal's foreground process."""

    def __init__(self, folder: Path, *command: str, flags: Sequence[str] = ()) -> None:
        self.output = ""
        run = [sys.executable, "-m", "ckptd", "run", "--store", str(folder / "store")]
        args = [*run, *flags, "--", *command]
        env = {name: value for name, value in os.environ.items() if not name.startswith("CKPTD_")}
        env.update(CKPTD_AGENT_PATH=str(HERE / "stub"), CKPTD_RESTART_DELAY="0.05s")
        self.master, slave = pty.openpty()
        name = os.ttyname(slave)
        self.pid = os.posix_spawn(
            sys.executable,
            [sys.executable, str(HERE / "shell.py"), name, str(folder), *args],
            env,
            setsid=True,
        )
        os.close(slave)

    def read(self, wait: float) -> None:
        if select.select([self.master], [], [], wait)[0]:
            try:
                self.output += os.read(self.master, 65536).decode(errors="replace")
            except OSError:  # everybody has closed the terminal
                time.sleep(wait)

    def until(self, condition, what: str):
        end = time.monotonic() + 30
        while not (value := condition()):
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come\n{self.output}")
            self.read(0.02)
        return value

    def seen(self, text: str) -> None:
        self.until(lambda: text in self.output, repr(text))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def foreground(self) -> int:
        return int.from_bytes(fcntl.ioctl(self.master, termios.TIOCGPGRP, b"\0" * 4), sys.byteorder)

    def ckptd(self) -> psutil.Process:
        return self.until(lambda: psutil.Process(self.pid).children(), "ckptd")[0]

    def program(self) -> psutil.Process:
        return self.until(lambda: self.ckptd().children(), "the program")[0]

    def wait(self) -> None:
        self.seen("shell: status ")

    @property
    def status(self) -> int:
        return int(self.output.split("shell: status ")[-1].split()[0])

    def end(self) -> None:
        processes = []
        try:
            leader = psutil.Process(self.pid)
            processes = [*leader.children(recursive=True), leader]
        except psutil.NoSuchProcess:
            pass  # it has ended, as it should
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        os.close(self.master)
        os.waitpid(self.pid, 0)


@pytest.fixture
def session(tmp_path) -> Iterator:
    sessions: list[Session] = []

    def begin(*command: str, flags: Sequence[str] = ()) -> Session:
        sessions.append(Session(tmp_path, *command, flags=flags))
        return sessions[-1]

    yield begin
    for one in sessions:
        one.end()


def write(folder: Path, text: str) -> str:
    path = folder / "train.py"
    path.write_text(text)
    return str(path)


def test_ctrl_c_is_for_ckptd_and_saves(session):
    run = session(sys.executable, str(HERE / "fake_agent.py"), "1000", flags=["-v"])
    run.seen(" is ready\r\n")  # before that a Ctrl-C is the program's
    run.seen("\r\n5\r\n")
    assert run.foreground() == run.ckptd().pid
    run.type("\x03")
    run.wait()
    assert run.status == 75
    assert "SIGINT: saved step" in run.output
    assert "KeyboardInterrupt" not in run.output


def test_program_that_reads_the_terminal_gets_it(session, tmp_path):
    run = session(sys.executable, write(tmp_path, "print('hello', input('name? '))\nprint('again', input())"))
    run.seen("name? ")
    run.until(lambda: run.foreground() == run.program().pid, "the terminal's change of hands")
    run.type("you\n")
    run.seen("hello you")
    run.type("there\n")
    run.seen("again there")
    run.wait()
    assert run.status == 0
    assert "shell: has the terminal" in run.output


def test_ctrl_c_while_the_program_has_the_terminal(session, tmp_path):
    run = session(sys.executable, write(tmp_path, "input('name? ')"))
    run.seen("name? ")
    run.until(lambda: run.foreground() == run.program().pid, "the terminal's change of hands")
    run.type("\x03")
    run.wait()
    assert run.status == 130
    assert "KeyboardInterrupt" in run.output


@pytest.mark.parametrize("reads", [True, False])
def test_ctrl_z_stops_both_and_fg_goes_on(session, tmp_path, reads):
    works = "import time\nprint('ready?', flush=True)\nend = time.time() + 1\nwhile time.time() < end: pass\n"
    text = ("input('ready? ')\n" if reads else works) + "print('done')"
    run = session(sys.executable, write(tmp_path, text))
    run.seen("ready?")
    program = run.program()
    if reads:
        run.until(lambda: run.foreground() == program.pid, "the terminal's change of hands")
    run.type("\x1a")
    run.seen("shell: stopped")
    run.until(lambda: program.status() == psutil.STATUS_STOPPED, "the program's stop")
    os.kill(run.pid, signal.SIGUSR1)  # the shell's "fg"
    run.until(lambda: program.status() != psutil.STATUS_STOPPED, "the program going on")
    if reads:
        run.until(lambda: run.foreground() == program.pid, "the terminal's return")
        run.type("\n")
    run.seen("done")
    run.wait()
    assert run.status == 0


def test_window_size_changes_reach_the_program(session, tmp_path):
    text = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])\n"
        "print('ready', flush=True)\n"
        "signal.sigwait([signal.SIGWINCH])\n"
        "print('resized')\n"
    )
    run = session(sys.executable, write(tmp_path, text))
    run.seen("ready")
    fcntl.ioctl(run.master, termios.TIOCSWINSZ, b"\x20\0\x60\0\0\0\0\0")
    run.seen("resized")
    run.wait()
    assert run.status == 0

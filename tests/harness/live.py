"""A run under ckptd that a test can interrupt at well-defined moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import psutil

from harness.moments import Moment
from harness.outcome import Outcome, environment, files_below


@dataclass(frozen=True)
class Action:
    """Send a signal when a moment has come."""

    moment: Moment
    signal: int = signal.SIGTERM
    to: Literal["job", "ckptd"] = "job"
    times: int = 1
    """So many in a row, a millisecond apart."""
    same: bool = False
    """Take the process that the action before signalled; otherwise wait for a relaunched one."""


class LiveRun:
    """``python -m ckptd run ... -- python SCRIPT ARGS``, from its start to its end."""

    def __init__(
        self,
        script_args: Sequence[str | Path],
        cwd: Path,
        *,
        store: Path,
        options: Sequence[str] = (),
        env: dict[str, str] | None = None,
        stdin: bytes = b"",
        before: Sequence[str] = (),
        deadline: float = 120.0,
    ) -> None:
        """Start it. ``deadline``: seconds from now by which all must be over.

        ``before`` are the words of a command that becomes the one given behind it, such as ``unshare -m``.
        """
        self.cwd = cwd
        self.started = float("inf")
        self.processes: list[psutil.Process] = []
        self._arguments = [str(item) for item in script_args]
        self._until = time.monotonic() + deadline
        self._signalled: set[int] = set()
        self._out = bytearray()
        self._err = bytearray()
        cwd.mkdir(parents=True, exist_ok=True)
        given = _readable(stdin)
        self._ckptd = psutil.Popen(
            [
                *(*before, sys.executable, "-m", "ckptd", "run", "--store", str(store), *options),
                *("--", sys.executable, *self._arguments),
            ],
            cwd=cwd,
            env=environment(env),
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that a Ctrl-C at the tests' terminal is the tests' alone
        )
        os.close(given)
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self._ckptd.stdout, self._out), (self._ckptd.stderr, self._err))
        ]
        for reader in self._readers:
            reader.start()

    # ---- what can be seen ---------------------------------------------------------------------

    def lines(self) -> list[bytes]:
        """Complete lines on stdout so far."""
        return bytes(self._out).split(b"\n")[:-1]

    def said(self) -> list[bytes]:
        """Complete lines of ckptd's own so far."""
        return [line for line in bytes(self._err).split(b"\n")[:-1] if line.startswith(b"ckptd: ")]

    def job(self) -> psutil.Process | None:
        """The training process as it is now: the child of ckptd that runs the command."""
        if self.processes and self._alive(self.processes[-1]):
            return self.processes[-1]
        for child in self._children(self._ckptd):
            # The whole command must match: between fork and exec a child still shows ckptd's own.
            # So does the attempt's number: DataLoader workers of one that was ended come to ckptd, the subreaper.
            if (
                self._command(child)[1:] == self._arguments
                and self._attempt(child) == len(self.processes) + 1
            ):
                self.processes.append(child)
                self.started = time.monotonic()
                return child
        return None

    # ---- what can be done ---------------------------------------------------------------------

    def act(self, action: Action) -> None:
        """Wait for the action's moment and send its signal; AssertionError if it doesn't come."""
        target = self._target(action)
        while not action.moment.has_come(self):
            self._tick(f"{action.moment} did not come", 0.001)
        passed = time.monotonic() + action.moment.after / 1000
        while time.monotonic() < passed:
            self._tick(f"{action.moment} did not come", 0.0005)
        self.job()  # seen while ckptd lives: with that killed, it is no child of anyone we know
        for number in range(action.times):
            if number:
                time.sleep(0.001)
            try:
                target.send_signal(action.signal)
            except psutil.NoSuchProcess:
                if not number:
                    raise AssertionError(
                        self._told(f"pid {target.pid} was gone at {action.moment}")
                    ) from None
        self._signalled.add(target.pid)

    def wait(self) -> Outcome:
        """Wait until ckptd and the job are gone."""
        while self._ckptd.poll() is None:
            self.job()
            self._tick("it did not end", 0.01, ended=True)
        # With ckptd killed, the job may live on; it holds the other end of the pipes.
        for reader in self._readers:
            reader.join(max(0.0, self._until - time.monotonic()))
            if reader.is_alive():
                raise AssertionError(self._told("its output was not closed"))
        return Outcome(
            status=self._ckptd.returncode,
            stdout=bytes(self._out),
            stderr=bytes(self._err),
            files=files_below(self.cwd),
            processes=[process.pid for process in self.processes],
        )

    def close(self) -> None:
        """End whatever of it still runs."""
        everyone = [self._ckptd, *self._children(self._ckptd, recursive=True)]
        for process in self.processes:
            everyone += [process, *self._children(process, recursive=True)]
        for process in everyone:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._ckptd.wait(30)
        until = time.monotonic() + 30
        while left := [process for process in everyone if self._alive(process)]:
            # A signal is sent at once and felt when the process is next on a core.
            assert time.monotonic() < until, f"killed, and still there: {left}"
            time.sleep(0.005)
        for reader, stream in zip(self._readers, (self._ckptd.stdout, self._ckptd.stderr), strict=True):
            reader.join(30)
            assert not reader.is_alive(), self._told(f"killed {everyone}, and someone still holds its output")
            stream.close()

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- inside -------------------------------------------------------------------------------

    def _target(self, action: Action) -> psutil.Process:
        if action.to == "ckptd":
            return self._ckptd
        while True:
            process = self.job()
            if process is not None and (action.same or process.pid not in self._signalled):
                return process
            self._tick("no training process was started", 0.005)

    def _tick(self, otherwise: str, seconds: float, ended: bool = False) -> None:
        """Let a little time pass; AssertionError when there is none left or ckptd has ended."""
        if time.monotonic() > self._until:
            raise AssertionError(self._told(f"{otherwise} in time"))
        if not ended and self._ckptd.poll() is not None:
            raise AssertionError(self._told(f"{otherwise}: ckptd ended with {self._ckptd.returncode}"))
        time.sleep(seconds)

    def _told(self, what: str) -> str:
        out = bytes(self._out[-1500:]).decode(errors="replace")
        err = bytes(self._err[-3000:]).decode(errors="replace")
        return f"{what}\n---- stdout\n{out}\n---- stderr\n{err}"

    @staticmethod
    def _read(stream: IO[bytes], into: bytearray) -> None:
        while piece := os.read(stream.fileno(), 1 << 16):
            into += piece

    @staticmethod
    def _alive(process: psutil.Process) -> bool:
        try:
            return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    @staticmethod
    def _children(process: psutil.Process, recursive: bool = False) -> list[psutil.Process]:
        try:
            return process.children(recursive=recursive)
        except psutil.NoSuchProcess:
            return []

    @staticmethod
    def _attempt(process: psutil.Process) -> int:
        try:
            return int(process.environ().get("CKPTD_ATTEMPT", 0))
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return 0

    @staticmethod
    def _command(process: psutil.Process) -> list[str]:
        try:
            return process.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return []


def _readable(data: bytes) -> int:
    """A pipe that ``data`` can be read from, then the end."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        file.write(data)  # less than a pipe holds
    return reader


def run_ckptd(
    script_args: Sequence[str | Path],
    cwd: Path,
    *,
    store: Path,
    actions: Sequence[Action] = (),
    options: Sequence[str] = (),
    env: dict[str, str] | None = None,
    stdin: bytes = b"",
    before: Sequence[str] = (),
    deadline: float = 120.0,
) -> Outcome:
    """Run a script under ckptd, do each action when its moment comes, and wait for the end.

    ``options`` go to ``ckptd run``, ``env`` is added to the environment, ``deadline`` is for all of
    it, in seconds. Nothing of it runs any more when this returns or raises.
    """
    with LiveRun(
        script_args, cwd, store=store, options=options, env=env, stdin=stdin, before=before,
        deadline=deadline,
    ) as run:  # fmt: skip
        for action in actions:
            run.act(action)
        return run.wait()

"""A program that is run plain or under ckptd, and when it and ckptd said what."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click
import psutil

from benchmarks import memory

PROGRAMS = Path(__file__).resolve().parent / "programs"
ATTEMPT = re.compile(r"ckptd: attempt (\d+) of job \S+ runs as process (\d+)")
COPIED = re.compile(r"ckptd: step (\d+) copied, training stood still for ([\d.]+) s")
SAVED = re.compile(r"ckptd: (?:SIG\w+: )?saved step (\d+) \(")
RESUMED = re.compile(r"ckptd: resumed at step (\d+) after ([\d.]+) s")
STEP = re.compile(r"(\d+) ([\d.]+)")
FAILED = re.compile(r"ckptd: (?:could not save|no checkpoint at this place)|Traceback|Error: ")
PATIENCE = 300.0
"""Seconds for anything that a bench waits for: far more than it should take."""
BEGUN = 2.5
"""Seconds from the first step within which ckptd has begun to make ready what it makes ready."""
CALM = 0.5
"""Seconds without growth, behind which it is."""
LEAVE = 20.0
"""Seconds in which an interrupted job's processes must be gone by themselves."""


@dataclass(frozen=True)
class Line:
    """One line, and when it came."""

    time: float
    """``time.monotonic()`` seconds."""
    text: str
    match: re.Match[str]


class EndedError(click.ClickException):
    """The program has ended, and did not say what was waited for."""


class Job:
    """``ckptd run`` of a program (or the program alone), from its start to its end."""

    def __init__(
        self, folder: Path, words: Sequence[str], *, under: bool = True, options: Sequence[str] = ()
    ) -> None:
        """Start ``python WORDS``. Its store is ``folder/store``, its socket below ``folder`` too."""
        self.folder = folder
        self.store = folder / "store"
        self._lines: list[tuple[float, str]] = []
        self._came = threading.Condition()
        self._segments = ""
        command = [sys.executable, *words]
        self._told_as = " ".join(command)
        if under:
            flags = ["-v", "--grace", "10m", "--store", str(self.store), *options]
            command = [sys.executable, "-m", "ckptd", "run", *flags, "--", *command]
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=folder, env=_environment(folder), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is the bench's, which ends this in order
        )  # fmt: skip
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    # ---- what can be seen -----------------------------------------------------------------------

    def wait(self, pattern: re.Pattern[str], since: float = 0.0, count: int = 1) -> Line:
        """The ``count``-th line like that which came after ``since``; waits for it. ClickException if none comes."""
        until = time.monotonic() + PATIENCE
        looked, found = 0, 0
        with self._came:
            while True:
                for moment, text in self._lines[looked:]:
                    if FAILED.match(text):
                        raise click.ClickException(self._told(f"no line like {pattern.pattern!r}"))
                    match = pattern.match(text) if moment >= since else None
                    if match is not None:
                        found += 1
                        if found == count:
                            return Line(moment, text, match)
                looked = len(self._lines)
                ended = self.process.poll() is not None and not self._reading()
                if time.monotonic() > until or ended:
                    told = self._told(f"no line like {pattern.pattern!r}")
                    raise EndedError(told) if ended else click.ClickException(told)
                self._came.wait(0.5)

    def lines(self, pattern: re.Pattern[str]) -> list[Line]:
        """Those that have come."""
        with self._came:
            found = [(moment, text, pattern.match(text)) for moment, text in self._lines]
        return [Line(moment, text, match) for moment, text, match in found if match is not None]

    def settle(self) -> None:
        """Wait until what ckptd makes ready ahead, beside the training, is ready: nothing grows in shared memory."""
        calm = self.wait(STEP).time + BEGUN
        size = -1
        while time.monotonic() < calm:
            self.check()
            now = memory.held(self.segments())
            if now != size:
                size, calm = now, max(calm, time.monotonic() + CALM)
            time.sleep(0.02)

    def check(self) -> None:
        """Raise ClickException if it has ended, or said that something failed."""
        failed = any(FAILED.match(text) for _, text in self._lines)
        if failed or self.process.poll() is not None:
            raise click.ClickException(self._told("something failed"))

    def pid(self, attempt: int = 1) -> int:
        """The training process of an attempt; waits for its start."""
        while True:
            line = self.wait(ATTEMPT, count=attempt)
            self._note_segments(int(line.match[2]))
            return int(line.match[2])

    def segments(self) -> Path | None:
        """Where in shared memory it has its segments, once ``pid`` has been asked for."""
        return Path(self._segments) if self._segments else None

    def _note_segments(self, pid: int) -> None:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                pairs = dict(each.partition(b"=")[::2] for each in file.read().split(b"\0"))
        except OSError:
            return  # it is gone already
        self._segments = os.fsdecode(pairs.get(b"CKPTD_SEGMENTS", b"")) or self._segments

    # ---- its end --------------------------------------------------------------------------------

    def stop(self) -> None:
        """End it in order: ckptd saves nothing more, or finishes what it has begun."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def finish(self) -> int:
        """Wait for its end; the exit status."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise click.ClickException(self._told("it did not end")) from None
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    def close(self) -> None:
        """End whatever of it still runs, and remove what that leaves in shared memory."""
        family = _family(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)  # so that it doesn't start the program again
            for each in family:
                _kill(each)
            for _ in range(2):
                if not _ends(self.process, LEAVE / 2):
                    self.process.send_signal(signal.SIGINT)  # twice: it doesn't wait for the disk either
                    time.sleep(0.2)
                    self.process.send_signal(signal.SIGINT)
            family += _family(self.process.pid)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(LEAVE)
        for each in family:
            _kill(each)
        psutil.wait_procs(family, LEAVE)
        if self._segments:
            shutil.rmtree(self._segments, ignore_errors=True)
        for reader, stream in zip(self._readers, (self.process.stdout, self.process.stderr), strict=True):
            reader.join(LEAVE)
            if stream is not None and not reader.is_alive():
                stream.close()

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- inside ---------------------------------------------------------------------------------

    def _reading(self) -> bool:
        return any(reader.is_alive() for reader in self._readers)

    def _read(self, stream: IO[bytes]) -> None:
        rest = b""
        while piece := os.read(stream.fileno(), 1 << 16):
            now = time.monotonic()
            *whole, rest = (rest + piece).split(b"\n")
            with self._came:
                self._lines += [(now, line.decode(errors="replace")) for line in whole]
                self._came.notify_all()
        with self._came:
            self._came.notify_all()

    def _told(self, what: str) -> str:
        words = [text for _, text in self._lines if not STEP.fullmatch(text)]
        return "\n".join([f"{what} from {self._told_as}", *words[-20:]])


def _environment(folder: Path) -> dict[str, str]:
    """Ours, without what would change a run; ckptd's socket is below the bench's folder."""
    mine = ("CKPTD_", "PYTHONDONT", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    return {**env, "XDG_RUNTIME_DIR": str(folder)}


def _family(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return  # gone by itself


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def wait_gone(pid: int) -> float:
    """When a process that is not our child has ended (``time.monotonic()``); waits for that."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return time.monotonic()
    try:
        if not select.select([fd], [], [], PATIENCE)[0]:
            raise click.ClickException(f"process {pid} did not end")
        return time.monotonic()
    finally:
        os.close(fd)


@contextmanager
def scratch(parent: Path | None) -> Iterator[Path]:
    """A folder on the disk that is measured; gone at the end, on Ctrl-C and SIGTERM too."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="ckptd-bench-", dir=parent) as name:
            yield Path(name)
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def emptied(folder: Path, name: str) -> Iterator[Path]:
    """A folder for one run; removed behind it, and that made durable, so that the next one has the disk to itself."""
    path = folder / name
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt

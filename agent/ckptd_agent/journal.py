"""Writes what ``ckptd prove`` compares: digests at each training event, at a dump and after a resume.

One line of JSON for each, with only what changed since the line before. The file is named by CKPTD_DIGESTS. It is
never held open: at a dump it would be taken for one of the program's.
"""

from __future__ import annotations

import json
import os
import platform
import posix
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

from ckptd_agent import digests, safepoint
from ckptd_agent.loops import events, hooks

ANSWER_SECONDS = 10.0
"""How long a step waits for the supervisor to take up the notice, so that the stop is at this step."""


def install() -> None:
    """Listen, if CKPTD_DIGESTS says so; to be called behind safepoint.install()."""
    path = os.environ.get("CKPTD_DIGESTS", "")
    if not path or os.environ.get("RANK", "0") != "0":
        return
    journal = Journal(path)
    onward = events.listener

    def listen(steps: int) -> None:
        if onward is not None:
            onward(steps)
        if hooks.replay is None:
            journal.attempt(journal.step, steps, sys._getframe(1))

    def witness(what: str) -> None:
        journal.attempt(journal.witness, what, sys._getframe(1))

    events.listener = listen
    events.wake_at(step=0)
    safepoint.witness = witness
    journal.start()


class Journal:
    """The file, and which digests its last line of this process left."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.stops = [int(word) for word in os.environ.get("CKPTD_DIGESTS_STOPS", "").split(",") if word]
        self.until = int(os.environ.get("CKPTD_DIGESTS_UNTIL", "0"))
        """Events after which the process ends; 0: it is not cut short."""
        self.numbers: dict[str, int] = {}
        self.last: dict[str, digests.Item] = {}
        self.events = 0
        self.failed = False
        self.asked = _asked(path)

    def attempt(self, write: Callable[..., None], *args: Any) -> None:
        """Write, or else say why not, once: the program runs on."""
        if self.failed:
            return
        try:
            write(*args)
        except Exception as error:
            self.failed = True
            self._append({"k": "failed", "s": events.steps(), "why": f"{type(error).__name__}: {error}"})

    def start(self) -> None:
        """The process has imported torch."""
        about: dict[str, Any] = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "pid": os.getpid(),
        }
        self._write("start", 0, digests.random_states(), about)

    def step(self, steps: int, frame: FrameType) -> None:
        """A training event; the process may be asked to leave here."""
        self.events += 1
        more = {"device": _device()} if self.events == 1 else None
        self._write("step", steps, digests.take(frame), more)
        if steps in self.stops and steps not in self.asked:
            self.asked.add(steps)
            self._append({"k": "asked", "s": steps})
            _stop()
        if self.until and self.events >= self.until:
            os._exit(0)

    def witness(self, what: str, frame: FrameType) -> None:
        """The state at a safe point: 'dumped' when it was copied, 'resumed' when it was restored."""
        self._write(what, events.steps(), digests.take(frame))

    def _write(
        self, kind: str, steps: int, found: dict[str, digests.Item], more: dict[str, Any] | None = None
    ) -> None:
        new = []
        for name, item in found.items():
            if name not in self.numbers:
                self.numbers[name] = len(self.numbers)
                new.append([name, item[0]])
        changed = {
            self.numbers[name]: item[1:] for name, item in found.items() if self.last.get(name) != item
        }
        gone = [self.numbers[name] for name in self.last if name not in found]
        self.last = found
        line = {"k": kind, "s": steps, "new": new, "v": changed, "gone": gone, **(more or {})}
        self._append(line)

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        # Past os.open, which a replay guards, and without O_APPEND, which is noted as the program's own doing.
        file = posix.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.lseek(file, 0, os.SEEK_END)
            while data:
                data = data[os.write(file, data) :]
        finally:
            os.close(file)


def _device() -> str:
    """What the program trains on. A device that it has not called is not woken."""
    return torch.cuda.get_device_name() if torch.cuda.is_initialized() else "CPU"  # type: ignore[no-untyped-call]


def _asked(path: str) -> set[int]:
    """The steps at which a process before this one was asked to leave."""
    try:
        with open(path, "rb") as file:
            return {json.loads(line)["s"] for line in file if line.startswith(b'{"k":"asked"')}
    except FileNotFoundError:
        return set()


def _stop() -> None:
    """A notice, as from outside; waits until the dump is asked for."""
    os.kill(os.getpid(), signal.SIGTERM)
    until = time.monotonic() + ANSWER_SECONDS
    while hooks.at_safe_point is None and time.monotonic() < until:
        time.sleep(0.001)

"""A process that must not mind: how it fares, and what it does for those who mean well, while others don't."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ckptd import control
from ckptd.client import Client, new_ask
from ckptd.daemon.crowd import MOST, anonymous_bytes
from ckptd.errors import CkptdError

ROOT = Path(__file__).resolve().parents[2]
SOON = 1.0
"""Seconds in which who means well has an answer."""
FEWEST = 4
"""Times that they ask, under each kind of trouble, or right behind it."""
GROWTH = 64 << 20
"""Bytes by which a process may grow."""
ENDLESS = 640 << 20
"""The same while messages come that don't end: see ckptd.daemon.crowd.ROOM."""
SPARE_FILES = 24
"""Descriptors that may be open beside those before, once all is over."""
SETTLED = 60.0
"""Seconds until then: the kernel keeps some 100,000 requests for a hundred clients."""


class BrokenPromiseError(AssertionError):
    """The target did what it must not, or didn't do what it must."""


@dataclass
class Waits:
    """How long honest clients waited, in seconds."""

    seconds: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def worst(self) -> float:
        """The longest but one, or but two in a hundred: the machine is not ours alone. (None may take 5 s.)"""
        spared = max(len(self.seconds) // 50, int(len(self.seconds) > 3))
        return sorted(self.seconds)[-1 - spared] if self.seconds else 0.0


class Target:
    """A supervisor or a daemon."""

    def __init__(self, name: str, endpoint: str, pid: int, agent: int, saves: bool) -> None:
        self.name, self.endpoint, self.pid, self.agent, self.saves = name, endpoint, pid, agent, saves
        self.process = psutil.Process(pid)
        self.bytes_before = self.anonymous()
        self.files_before = self.process.num_fds()

    def anonymous(self) -> int:
        """Memory that it takes."""
        return anonymous_bytes(Path(f"/proc/{self.pid}/status"))

    def ask(self, request: control.Request, patience: float = 5.0) -> dict[str, Any]:
        """What a user's command would ask, on a connection of its own."""
        with Client(self.endpoint, self.name) as client:
            return client.ask(request, patience)

    def look(self, waits: Waits) -> None:
        """Ask it how it fares."""
        begun = time.monotonic()
        try:
            facts = self.ask(control.Look(new_ask()))
            if facts.get("supervisor", facts.get("pid")) != self.pid:
                raise BrokenPromiseError(f"{self.name} answers {facts}")
        except CkptdError as error:
            waits.refused.append(str(error))
        waits.seconds.append(time.monotonic() - begun)

    def save(self) -> None:
        """Have a checkpoint taken."""
        for tries in (1, 2):
            try:
                done = self.ask(control.Save(new_ask()), 10.0)
                break
            except CkptdError as error:
                # Once it may meet the moment at which all connections are ended.
                if tries == 2:
                    raise BrokenPromiseError(f"{self.name}: no checkpoint can be taken: {error}") from error
        if not done.get("checkpoint"):
            raise BrokenPromiseError(f"{self.name}: a checkpoint of {done}")

    def check(self, kind: str, waits: Waits, peak: int, files: int) -> None:
        """What must hold after each kind of trouble. Raises BrokenPromiseError."""
        if not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE:
            raise BrokenPromiseError(f"{self.name} has died of {kind}")
        if waits.refused or waits.worst() > SOON:
            raise BrokenPromiseError(
                f"{self.name} under {kind}: asked {len(waits.seconds)} times, the worst took {waits.worst():.2f} s, "
                f"no answer: {waits.refused[:1]}"
            )
        grown = peak - self.bytes_before
        if grown > (ENDLESS if kind == "endless_message" else GROWTH):
            raise BrokenPromiseError(f"{self.name} has grown by {grown >> 20} MiB under {kind}")
        if files > self.files_before + MOST + 4000:
            raise BrokenPromiseError(f"{self.name} has {files} descriptors open under {kind}")

    def settle(self) -> None:
        """All connections come to their end, once what was sent on them is read. Raises BrokenPromiseError."""
        end = time.monotonic() + SETTLED
        while True:
            left, grown = self.process.num_fds(), (self.anonymous() - self.bytes_before) >> 20
            if left <= self.files_before + SPARE_FILES and grown < 48:
                return
            if time.monotonic() > end:
                raise BrokenPromiseError(
                    f"{self.name}: {left} descriptors open, {grown} MiB more, at the end"
                )
            time.sleep(0.02)


class Foes:
    """The process that makes trouble."""

    def __init__(self) -> None:
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fuzz_sockets.trouble"], cwd=ROOT, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"},
        )  # fmt: skip

    def trouble(self, target: Target, kind: str, seed: int, seconds: float) -> dict[str, Any]:
        """Make one kind of it, and meanwhile ask as others would. Raises BrokenPromiseError; returns figures."""
        waits, over = Waits(), threading.Event()
        peak, files = target.anonymous(), 0

        def ask_on() -> None:
            while not over.is_set() or len(waits.seconds) < FEWEST:
                target.look(waits)
                over.wait(0.02)

        asker = threading.Thread(target=ask_on)
        asker.start()
        try:
            self.begin(target, kind, seed, seconds)
            done = threading.Thread(target=self.end)
            done.start()
            while done.is_alive() and target.process.is_running():
                peak = max(peak, target.anonymous())
                files = max(files, target.process.num_fds())
                done.join(0.02)
        except psutil.Error:
            pass  # it is gone: looked at below
        finally:
            over.set()
            asker.join()
        target.check(kind, waits, peak, files)
        return {
            "asked": len(waits.seconds), "worst": round(waits.worst(), 3), "sent": self.sent, "files": files,
            "grown_mib": (peak - target.bytes_before) >> 20,
        }  # fmt: skip

    def begin(self, target: Target, kind: str, seed: int, seconds: float) -> None:
        """Begin with one kind of trouble."""
        if self._process.poll() is not None:  # ZeroMQ has aborted it, for what it does to ZeroMQ
            self.close()
            self._process = self._start()
        what = {
            "kind": kind, "seed": seed, "seconds": seconds, "endpoint": target.endpoint, "agent": target.agent,
        }  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Wait until it is over."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.sent = json.loads(line)["sent"] if line else 0

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

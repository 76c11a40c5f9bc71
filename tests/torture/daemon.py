"""Kills the daemon, and the ckptd of its jobs, at random moments over running jobs; then looks at the jobs.

No job may be harmed (its output is that of a plain run, line by line), none lost (each comes to its end), and none
started twice (each start takes a lock that the one before must have left).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ckptd.states import OVER
from harness.hosts import Host

JOBS = 3
LONGEST = 1.0
"""Seconds between a start of the daemon and its kill, at most."""
PROGRAM = """\
import fcntl, os, sys, time

held = os.open(os.environ["HERE"] + "/held", os.O_WRONLY | os.O_CREAT)
try:
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    with open(os.environ["HERE"] + "/twice", "a") as file:
        file.write(f"{os.getpid()}\\n")
with open(os.environ["HERE"] + "/starts", "a") as file:
    file.write(f"{os.getpid()} {os.environ.get('CKPTD_ATTEMPT')}\\n")

import torch

torch.manual_seed(0)
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.Adam(model.parameters(), 0.01)
for step in range(int(sys.argv[1])):
    loss = model(torch.randn(4, 8)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, f"{loss.item():.12f}", flush=True)
    time.sleep(0.01)
    if os.path.exists(os.environ["HERE"] + "/enough"):
        break
"""


@dataclass
class Kills:
    """What was done, and what came of it."""

    rounds: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    steps: int = 0
    starts: int = 0
    """Of programs, all jobs together."""
    adopted: int = 0
    """Programs that a new ckptd took over."""
    seconds: float = 0.0

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items()))
        return (
            f"{self.rounds} kills ({kinds}) over {self.jobs} jobs of {self.steps} steps in all: {self.starts} starts, "
            f"{self.adopted} taken over; none harmed, none lost, none started twice; {self.seconds:.1f} s"
        )

    def as_json(self) -> dict[str, Any]:
        """For benchmarks/results."""
        return {
            "kills": self.rounds, "kinds": dict(sorted(self.kinds.items())), "jobs": self.jobs, "steps": self.steps,
            "starts": self.starts, "taken_over": self.adopted, "broken": 0, "seconds": round(self.seconds, 1),
        }  # fmt: skip


class Scene:
    """A host with jobs that run until they are told that it is enough."""

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self.host, self.draw, self.tally = Host(folder), draw, Kills()
        self.jobs: dict[str, str] = {}
        """Ids by name."""
        self._orders = 0
        self.orderly = 0
        """Ends of the daemon that stopped all jobs."""
        self.program = folder / "train.py"
        self.program.write_text(PROGRAM)
        self.host.env.pop("CKPTD_AGENT_PATH")

    def here(self, name: str) -> Path:
        """The job's own folder."""
        return self.host.folder / name

    def order(self) -> None:
        """Start a job; the daemon may be killed while it does."""
        self._orders += 1
        name = f"job{self._orders}"
        self.here(name).mkdir()
        from ckptd.daemon.names import identify

        self.jobs[name] = identify([], "", name).id
        flags = ["--every", "never" if self.draw.random() < 0.5 else "50steps", "--restart-delay", "0.05s"]
        self._ordering = subprocess.Popen(
            [sys.executable, "-m", "ckptd", "run", "-d", "--name", name, *flags, "--", sys.executable,
             str(self.program), "100000"],
            env={**self.host.env, "HERE": str(self.here(name)), "OMP_NUM_THREADS": "1"}, cwd=self.host.folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ordered(self) -> None:
        """The command has ended, whatever came of it."""
        self._ordering.wait(60)
        name, job = list(self.jobs.items())[-1]
        if not (self.host.store / "jobs" / job / "order.json").exists():
            del self.jobs[name]  # it was told that there is no daemon, and nothing was begun

    def round(self) -> None:
        """Kill something at a random moment, and start the daemon again."""
        fresh = len(self.jobs) < JOBS
        if fresh:
            self.order()
        time.sleep(self.draw.uniform(0, LONGEST))
        kind = self.draw.choices(["daemon", "keepers", "both", "renewed", "stopped"], [60, 15, 10, 10, 5])[0]
        self.tally.rounds += 1
        self.tally.kinds[kind] += 1
        if kind in ("keepers", "both"):
            for row in self.host.rows():
                if row["supervisor"] is not None and self.draw.random() < 0.7:
                    _kill(row["supervisor"])
        if kind == "renewed":
            assert self.host.daemon is not None
            self.host.daemon.send_signal(signal.SIGHUP)
            time.sleep(self.draw.uniform(0, 0.3))
        if kind == "stopped":
            assert self.host.stop() == 0, self.host.log()
            self.orderly += 1
        elif kind != "keepers":
            self.host.kill()
        if fresh:
            self.ordered()
        if kind != "keepers":
            self.host.start()

    def judge(self) -> None:
        """Let all come to their end, and look at what they did."""
        for name in self.jobs:
            self._until(name, frozenset({"running"}))
        for name in self.jobs:
            (self.here(name) / "enough").touch()
        for name, job in self.jobs.items():
            self._until(name, OVER)
            row = self.host.row(name)
            assert row["state"] == "finished", (row, self.host.log())
            assert not (self.here(name) / "twice").exists(), f"{name} was started twice\n{self.host.log()}"
            starts = (self.here(name) / "starts").read_text().splitlines()
            lines = self.host.output(job)
            assert [int(line.split()[0]) for line in lines] == list(range(len(lines))), (
                f"{name}: {self.host.log()}"
            )
            assert lines == self.plain(len(lines)), f"{name} was harmed"
            assert len(starts) <= self.orderly + 1, (name, starts, self.host.log())
            self.tally.jobs += 1
            self.tally.steps += len(lines)
            self.tally.starts += len(starts)
        self.tally.adopted = self.host.log().count("looking after it again")

    def _until(self, name: str, states: frozenset[str]) -> None:
        self.host.until(lambda: self.host.row(name)["state"] in states, f"{name} to be {sorted(states)}", 60)

    def plain(self, steps: int) -> list[str]:
        """What so many steps write without ckptd."""
        folder = self.host.folder / f"plain{steps}"
        folder.mkdir(exist_ok=True)
        env = {**self.host.env, "HERE": str(folder), "OMP_NUM_THREADS": "1"}
        text = PROGRAM.replace("    time.sleep(0.01)\n", "")
        done = subprocess.run(
            [sys.executable, "-c", text, str(steps)], env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def torture_daemon(folder: Path, rounds: int, seed: int) -> Kills:
    """So many kills over running jobs. Raises AssertionError if a promise was broken."""
    scene = Scene(folder, random.Random(seed))
    begun = time.monotonic()
    try:
        scene.host.start()
        for _ in range(rounds):
            scene.round()
        scene.judge()
        scene.tally.seconds = time.monotonic() - begun
        return scene.tally
    finally:
        scene.host.end()

"""Trouble on the sockets of a job's ckptd and of the daemon, kind after kind, until the time is over.

    scripts/fuzz-sockets [--minutes M] [--seed S] [KIND]...

After each kind: both live, who means well was answered within a second all the while, neither has grown by 64 MiB, no
descriptor is left open, and a checkpoint can be taken. In the end both are stopped in the midst of trouble: the job
is saved, and its output is what it would have been.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from fuzz_sockets.target import BrokenPromiseError, Foes, Target
from fuzz_sockets.trouble import KINDS
from harness.hosts import Host

STEPS = 10_000_000
"""More than there will be."""
ROOT = Path(__file__).resolve().parents[2]


class Hunt:
    """A daemon with a job that trains, and one that has gone mad; and those who make trouble."""

    def __init__(self, folder: Path) -> None:
        self.host = Host(folder)
        self.foes = Foes()
        self.made: list[str] = []

    def begin(self) -> None:
        """Start all of them."""
        self.host.start()
        self.job = self.host.job(STEPS, "victim", flags=("--every", "never"), hello="often")
        self.host.steps(self.job, 3)
        self.targets = [self._supervisor(), self._daemon()]

    def _supervisor(self) -> Target:
        record = self.host.record(self.job)
        listens, row = record["extra"]["listens"], self.host.row("victim")
        return Target("the job's ckptd", listens["at"], listens["pid"], row["pid"], saves=True)

    def _daemon(self) -> Target:
        facts = self.host.facts()
        assert facts is not None
        return Target("the daemon", facts["endpoint"], facts["pid"], 0, saves=False)

    def mad(self, seed: int, seconds: float) -> str:
        """Start a job whose agent sends anything; its id."""
        name = f"mad-{len(self.made)}"
        self.made.append(name)
        command = [sys.executable, "-m", "fuzz_sockets.hostile", str(seed), str(seconds)]
        self.host.env["PYTHONPATH"] = f"{ROOT / 'tests'}:{ROOT}"
        flags = ("--every", "0.05s", "--grace", "10s", "--max-restarts", "0")
        self.host.ckptd("run", "-d", "--name", name, *flags, "--", *command)
        return name

    def sane(self, name: str) -> None:
        """The mad one has come to its ordinary end. Raises AssertionError."""
        row = self.host.ended(name)
        if self.host.output(str(row["id"]))[-1] != "an ordinary end":
            raise BrokenPromiseError(f"{name} ended otherwise\n{self.host.log()}")

    def trouble(
        self, kind: str, seed: int, seconds: float, targets: Sequence[Target] | None = None
    ) -> list[str]:
        """One kind, for both, or for the one that is named. Raises BrokenPromiseError."""
        told = []
        for target in self.targets if targets is None else targets:
            figures = self.foes.trouble(target, kind, seed, seconds)
            if target.saves:
                target.save()
            target.settle()
            told.append(f"{kind:<16} {target.name:<16} {figures}")
        if "could not be dealt with" in (log := self.host.log()):
            line = next(line for line in log.splitlines() if "could not be dealt with" in line)
            raise BrokenPromiseError(f"after {kind} (seed {seed}): {line}")
        return told

    def finish(self, seed: int) -> None:
        """Stop all in the midst of it, and look at what the job has written. Raises BrokenPromiseError."""
        begun = time.monotonic()
        self.foes.begin(self.targets[0], "look_flood", seed, 3.0)
        if status := self.host.stop():
            raise BrokenPromiseError(f"the daemon ended with status {status}")
        took = time.monotonic() - begun
        row = self.host.row("victim")
        if row["state"] != "stopped" or not row["checkpoint"] or took > 15:
            raise BrokenPromiseError(
                f"the job's state is {row['state']} after {took:.1f} s\n{self.host.log()}"
            )
        steps = [line for line in self.host.output(self.job) if not line.startswith(("saved", "unsaved"))]
        if steps != [str(number) for number in range(1, len(steps) + 1)]:
            raise BrokenPromiseError("the job's output is not what it would have been")
        if row["attempt"] != 1:
            raise BrokenPromiseError(f"the job was started {row['attempt']} times\n{self.host.log()}")

    def close(self) -> None:
        """Leave nothing behind."""
        self.foes.close()
        self.host.end()


def hunt(folder: Path, seed: int, seconds: float, kinds: Iterable[str]) -> int:
    """Go on for so long; how many kinds of trouble there were."""
    chance, names, count = random.Random(seed), list(kinds), 0
    until = time.monotonic() + seconds
    found = Hunt(folder)
    try:
        found.begin()
        while time.monotonic() < until:
            mad = found.mad(chance.randrange(1 << 30), 5.0)
            for kind in chance.sample(names, len(names)):
                for line in found.trouble(kind, chance.randrange(1 << 30), chance.choice((0.3, 1.0, 3.0))):
                    print(line, flush=True)
                count += 1
                if time.monotonic() > until:
                    break
            found.sane(mad)
            for target in found.targets:
                target.settle()
        found.finish(chance.randrange(1 << 30))
    finally:
        found.close()
    return count


def main() -> None:
    """What the arguments ask for; exit status 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz-sockets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--minutes", type=float, default=10.0, help="[10]")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(KINDS)}")
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ckptd-fuzz-sockets-") as folder:
        try:
            count = hunt(Path(folder), options.seed, 60 * options.minutes, options.kinds or KINDS)
        except AssertionError as error:
            sys.exit(f"seed {options.seed}: {error}")
    print(f"{count} kinds of trouble, and all promises kept")


if __name__ == "__main__":
    main()

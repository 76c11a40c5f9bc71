"""Kills a process that works on a store, round after round, and looks at what it has left.

scripts/torture store [--rounds N] [--seed S] [--keep]

Half of the kills come at a change of the disk, each as likely as another (tests/faults/fileops.c, where there is a
C compiler), half after a random time.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import fileops

from torture.judge import Promises, check, check_nothing_left
from torture.work import Setting, Work, say_to, write_small

MOST_CHANGES = 260
"""So many a process makes at most before it is killed: some four commits and what is done between them."""


@dataclass
class Tally:
    """What came of many rounds."""

    rounds: int = 0
    at_change: int = 0
    """Kills at a change of the disk; the others came after a time."""
    commits: int = 0
    """That were said to be durable."""
    left: Counter[str] = field(default_factory=Counter)
    """Rounds after which something was left to sweep, by what it was."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For benchmarks/results."""
        return {
            "rounds": self.rounds, "killed_at_a_change_of_the_disk": self.at_change,
            "killed_after_a_time": self.rounds - self.at_change, "commits": self.commits,
            "rounds_with_something_left": dict(sorted(self.left.items())), "broken": 0,
            "seconds": round(self.seconds, 1),
        }  # fmt: skip


def torture(folder: Path, rounds: int, seed: int) -> Tally:
    """Run them all in ``folder``. Raises AssertionError, naming round and seed."""
    setting = Setting(folder / "store", folder / "other", folder / "shm")
    setting.shm.mkdir()
    tally, promises = Tally(), Promises()
    begun = time.monotonic()
    for number in range(rounds):
        chance = random.Random(f"{seed} {number}")
        at = chance.randrange(1, MOST_CHANGES) if chance.random() < 0.5 and fileops.loaded() else 0
        try:
            lines = _one_life(setting, chance, at)
            promises = promises.after(lines)
            check(setting, promises)
            tally.left.update(_left(setting))
            if chance.random() < 0.5:  # else the next process has to do it itself, and may be killed at it
                check_nothing_left(setting)
                check(setting, promises)
        except Exception as error:
            error.args = (f"round {number} of seed {seed}: {error}",)
            raise
        tally.rounds, tally.at_change = number + 1, tally.at_change + bool(at)
    tally.commits, tally.seconds = promises.commits, time.monotonic() - begun
    return tally


def _left(setting: Setting) -> set[str]:
    """Kinds of what lies about."""
    folder, found = setting.folder, set()
    for place in (folder.work, setting.other / folder.path.relative_to(setting.store) / "work"):
        for path in place.iterdir() if place.exists() else []:
            kind = path.name.partition("-")[0]
            found.add({"removed": "half removed", "copy": "half copied"}.get(kind, "half written"))
    if any(setting.shm.glob("*/*")):
        found.add("a segment")
    if any(setting.store.rglob(".tmp-*")):
        found.add("half a small file")
    return found


def _one_life(setting: Setting, chance: random.Random, at: int) -> list[str]:
    """Let a process work until it is killed; returns what it has said."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _live(setting, chance, at, reader, writer)
    os.close(writer)
    try:
        if not at:
            time.sleep(chance.uniform(0.0, 0.1))  # this is the moment of the kill, nothing is waited for
            os.kill(pid, signal.SIGKILL)
        with os.fdopen(reader) as said:
            lines = said.read().split("\n")[:-1]
    finally:
        _, status = os.waitpid(pid, 0)
    if status != signal.SIGKILL:
        raise AssertionError(f"it ended with status {status}: {lines[-40:]}")
    return lines


def _live(setting: Setting, chance: random.Random, at: int, reader: int, writer: int) -> None:
    """The life of the child, which ends by a kill, or an error that it says."""
    os.close(reader)
    say = say_to(writer)
    try:
        write_small()
        if at:
            fileops.arm(at)
        Work(setting, chance, say).go_on()
    except BaseException:  # noqa: BLE001 - whatever it is, the parent tells it
        say(traceback.format_exc())
    finally:
        os._exit(1)


def main() -> None:
    """As scripts/torture."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description="Kill a writer, many times over.")
    parser.add_argument("what", choices=["store"])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/torture-store.json")
    options = parser.parse_args()
    folder = Path(os.environ.get("FILEOPS_UNDER") or tempfile.mkdtemp(prefix="ckptd-torture-"))
    if fileops.compiler() and not fileops.loaded():
        library = fileops.build(folder)
        work = folder / "work"
        work.mkdir()
        env = {**os.environ, **fileops.preload(library, work)}
        status = os.spawnve(
            os.P_WAIT, sys.executable, [sys.executable, "-m", "torture.kill", *sys.argv[1:]], env
        )
        if status == 0:
            shutil.rmtree(folder)
        sys.exit(status)
    try:
        tally = torture(folder, options.rounds, options.seed)
    except Exception:
        print(f"the store is kept in {folder}", file=sys.stderr)
        raise
    _tell(tally, options.seed, keep=options.keep)


def _tell(tally: Tally, seed: int, *, keep: bool) -> None:
    left = ", ".join(f"{kind} {count}" for kind, count in sorted(tally.left.items())) or "nothing"
    print(
        f"{tally.rounds} rounds, seed {seed}: {tally.at_change} killed at a change of the disk, "
        f"{tally.rounds - tally.at_change} after a time; {tally.commits} commits, none lost; "
        f"left to sweep after rounds: {left}; {tally.seconds:.1f} s"
    )
    if keep:
        from benchmarks.machine import describe
        from benchmarks.machine import keep as write

        print(write("torture-store", {"seed": seed, **tally.as_json(), "machine": describe()}))


if __name__ == "__main__":
    main()

"""Kills a process that works on a store, round after round, and looks at what it has left.

Half of the kills come at a change of the disk, each as likely as another (tests/faults/fileops.c, where there is a
C compiler), half after a random time.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import fileops

from ckptd.errors import CkptdError
from torture.judge import BrokenError, Promises, check, check_nothing_left
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

    def __str__(self) -> str:
        left = ", ".join(f"{kind} {count}" for kind, count in sorted(self.left.items())) or "nothing"
        return (
            f"{self.rounds} rounds, {self.at_change} killed at a change of the disk, {self.rounds - self.at_change} "
            f"after a time; {self.commits} commits, none lost; rounds that left something to sweep: {left}; "
            f"{self.seconds:.1f} s"
        )

    def as_json(self) -> dict[str, Any]:
        """For benchmarks/results."""
        return {
            "rounds": self.rounds, "killed_at_a_change_of_the_disk": self.at_change,
            "killed_after_a_time": self.rounds - self.at_change, "commits": self.commits,
            "rounds_with_something_left": dict(sorted(self.left.items())), "broken": 0,
            "seconds": round(self.seconds, 1),
        }  # fmt: skip


def torture(folder: Path, rounds: int, seed: int) -> Tally:
    """Run them all in ``folder``. Raises BrokenError, naming round and seed."""
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
        except (CkptdError, AssertionError) as error:
            raise BrokenError(f"round {number} of seed {seed}: {error}") from error
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

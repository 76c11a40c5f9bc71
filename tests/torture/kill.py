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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import fileops

from ckptd.errors import CkptdError
from torture.judge import BrokenError, Promises, check, check_nothing_left
from torture.work import Say, Setting, Work, say_to, write_small

MOST_SECONDS = 5.0
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
    uploads: int = 0
    """That were said to be at the remote."""
    left: Counter[str] = field(default_factory=Counter)
    """Rounds after which something was left to sweep, by what it was."""
    seconds: float = 0.0

    def __str__(self) -> str:
        left = ", ".join(f"{kind} {count}" for kind, count in sorted(self.left.items())) or "nothing"
        return (
            f"{self.rounds} rounds, {self.at_change} killed at a change of the disk, {self.rounds - self.at_change} "
            f"after a time; {self.commits} commits, {self.uploads} uploads, none lost; "
            f"rounds that left something to sweep: {left}; {self.seconds:.1f} s"
        )

    def as_json(self) -> dict[str, Any]:
        """For benchmarks/results."""
        return {
            "rounds": self.rounds, "killed_at_a_change_of_the_disk": self.at_change,
            "killed_after_a_time": self.rounds - self.at_change, "commits": self.commits,
            "uploads": self.uploads, "rounds_with_something_left": dict(sorted(self.left.items())), "broken": 0,
            "seconds": round(self.seconds, 1),
        }  # fmt: skip


Life = Callable[[random.Random, int, Say], None]
"""(chance, at which change of the disk to be killed or 0, say): works until it is killed."""


@dataclass(frozen=True)
class Scene:
    """Who works on what, and what must be so after each kill."""

    setting: Setting
    lives: Sequence[Life]
    """At once."""
    check: Callable[[Promises, bool], object]
    """Raises BrokenError; with True, what is left is to be swept, too."""
    changes: int = MOST_CHANGES
    seconds: float = 0.1
    """A kill comes within so many changes of the disk, or seconds."""
    counts: bool = False
    """A life that is told of a change counts by itself what it changes."""


def store(folder: Path) -> Scene:
    """One process, and its stores."""
    setting = Setting(folder / "store", folder / "other", folder / "shm")
    setting.shm.mkdir()

    def live(chance: random.Random, at: int, say: Say) -> None:
        Work(setting, chance, say).go_on()

    return Scene(setting, [live], lambda promises, clean: check_stores(setting, promises, clean))


def check_stores(setting: Setting, promises: Promises, clean: bool, *, beside: bool = False) -> None:
    """The stores of a setting. Raises BrokenError."""
    if clean:
        check_nothing_left(setting)
    check(setting, promises, beside=beside)


def torture(scene: Scene, rounds: int, seed: int) -> Tally:
    """Run them all. Raises BrokenError, naming round and seed."""
    tally, promises = Tally(), Promises()
    begun = time.monotonic()
    for number in range(rounds):
        chance = random.Random(f"{seed} {number}")
        try:
            lines, killed = _lives(scene, chance)
            promises = promises.after(lines)
            scene.check(promises, False)
            tally.left.update(_left(scene.setting))
            if chance.random() < 0.5:  # else the next process has to do it itself, and may be killed at it
                scene.check(promises, True)
        except (CkptdError, AssertionError) as error:
            raise BrokenError(f"round {number} of seed {seed}: {error}") from error
        tally.rounds, tally.at_change = number + 1, tally.at_change + killed
    tally.commits, tally.uploads = promises.commits, promises.uploads
    tally.seconds = time.monotonic() - begun
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


@dataclass
class _Child:
    """A process that works, and is to be killed."""

    pid: int
    said: int
    at: int
    """At which change of the disk; 0: by us, at ``end``."""
    end: float
    status: int | None = None


def _lives(scene: Scene, chance: random.Random) -> tuple[list[str], int]:
    """Let all work until they are killed; (what they have said, how many were killed at a change of the disk)."""
    children = [_begin(scene, life, chance) for life in scene.lives]
    while any(child.status is None for child in children):
        for child in children:
            if child.status is None:
                _kill(child)
        if any(child.status is not None for child in children):
            soon = time.monotonic() + scene.seconds
            for child in children:
                child.end = min(child.end, soon)
        time.sleep(0.001)  # a moment is a moment, nothing is waited for
    lines = []
    for number, child in enumerate(children):
        with os.fdopen(child.said) as said:
            own = said.read().split("\n")[:-1]
        if child.status != signal.SIGKILL:
            raise AssertionError(f"process {number} ended with status {child.status}: {own[-40:]}")
        lines += own
    return lines, int(any(child.at for child in children))


def _begin(scene: Scene, life: Life, chance: random.Random) -> _Child:
    counted = chance.random() < 0.5 and (scene.counts or fileops.loaded())
    at = chance.randrange(1, scene.changes) if counted else 0
    own = random.Random(chance.random())
    # Who is to be killed at a change, and makes none, is killed all the same.
    end = chance.uniform(0.0, scene.seconds) if not at else MOST_SECONDS
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _live(scene, life, own, at, writer)
    os.close(writer)
    return _Child(pid, reader, at, time.monotonic() + end)


def _kill(child: _Child) -> None:
    if time.monotonic() >= child.end:
        os.kill(child.pid, signal.SIGKILL)
        _, child.status = os.waitpid(child.pid, 0)
        return
    pid, status = os.waitpid(child.pid, os.WNOHANG)
    if pid:
        child.status = status


def _live(scene: Scene, life: Life, chance: random.Random, at: int, writer: int) -> None:
    """The life of the child, which ends by a kill, or an error that it says."""
    say = say_to(writer)
    try:
        write_small()
        if at and not scene.counts:
            fileops.arm(at)
        life(chance, at, say)
    except BaseException:  # noqa: BLE001 - whatever it is, the parent tells it
        say(traceback.format_exc())
    finally:
        os._exit(1)

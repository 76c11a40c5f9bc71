"""Lets the power fail at every point of a recording, and looks at what is on the disk then."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckptd.errors import CkptdError
from torture.forgetful import Disk, Image, picks
from torture.judge import BrokenError, Promises, check, check_nothing_left
from torture.recording import Call, record
from torture.work import Setting


@dataclass
class Tally:
    """What came of a recording."""

    calls: int = 0
    points: int = 0
    states: int = 0
    """That were looked at; what is the same as one before is not looked at again."""
    commits: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"the power failed at {self.points} points of {self.commits} commits and what was done between them, "
            f"{self.states} states of the disk, nothing lost; {self.seconds:.1f} s"
        )

    def as_json(self) -> dict[str, Any]:
        """For benchmarks/results."""
        return {
            "commits": self.commits, "calls_recorded": self.calls, "points": self.points,
            "states_looked_at": self.states, "broken": 0, "seconds": round(self.seconds, 1),
        }  # fmt: skip


def cut_power(folder: Path, commits: int, seed: int, drawn: int = 2) -> Tally:
    """Record in ``folder``, then look at ``3 + drawn`` states at each point. Raises BrokenError."""
    begun = time.monotonic()
    calls = record(folder, seed, commits)
    memory = (
        "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    )  # folders are made and removed by the thousand
    with tempfile.TemporaryDirectory(prefix="ckptd-power-", dir=memory) as scratch:
        tally = replay(calls, Path(scratch), seed, drawn)
    tally.seconds = time.monotonic() - begun
    return tally


def replay(calls: Sequence[Call], scratch: Path, seed: int, drawn: int) -> Tally:
    """Look at what is on the disk before each call, and after the last. Raises BrokenError, naming the call."""
    tally = Tally(calls=len(calls))
    seen: set[tuple[bytes, Promises]] = set()
    disk, promises = Disk(), Promises()
    for point, call in enumerate([*calls, None]):
        for kind, image in _states(disk, random.Random(f"{seed} {point}"), drawn):
            known = (image.digest(), promises)
            if known in seen:
                continue
            seen.add(known)
            try:
                _look(scratch, image, promises)
            except (CkptdError, AssertionError) as error:
                last = (
                    f"{calls[point - 1].name} {' '.join(calls[point - 1].arguments)}" if point else "nothing"
                )
                raise BrokenError(f"seed {seed}, after call {point} ({last}), {kind}: {error}") from error
            tally.states += 1
        tally.points += 1
        if call is not None:
            disk.take(call)
            promises = _hear(promises, call)
    tally.commits = promises.commits
    return tally


def _hear(promises: Promises, call: Call) -> Promises:
    return promises.after(call.data.decode().splitlines()) if call.name == "said" else promises


def _states(disk: Disk, chance: random.Random, drawn: int) -> Sequence[tuple[str, Image]]:
    fixed = [("nothing unsynced", False, False), ("names only", True, False), ("data only", False, True)]
    found = [(kind, disk.after(picks(None, names), picks(None, data))) for kind, names, data in fixed]
    return found + [(f"drawn {number}", disk.after(picks(chance), picks(chance))) for number in range(drawn)]


def _look(scratch: Path, image: Image, promises: Promises) -> None:
    """As the next process would find it, before it has swept and after."""
    place, shm = scratch / "disk", scratch / "shm"
    image.make(place)
    shm.mkdir(exist_ok=True)
    try:
        setting = Setting(place / "store", place / "other", shm)
        check(setting, promises)
        check_nothing_left(setting)
        check(setting, promises)
    finally:
        shutil.rmtree(place)

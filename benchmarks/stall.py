"""What a periodic checkpoint costs a training that goes on: time, throughput and memory.

A plain program that changes all of its state between two checkpoints, or a tenth of it, runs under ``ckptd run
--every``. It prints when each step ended: how long a checkpoint blocked it is its longest step around the moment when
the copy was complete, less an ordinary one. How fast it is while a checkpoint drains to the disk is compared with how
fast it is before and after, in the same run: once with one thread, so that a core is free, and once with as many
threads as there are cores. Memory is looked at in a run of its own, as looking takes time.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks import figures, job, machine, memory, picture
from benchmarks.dump import NAMES, dump
from benchmarks.figures import Figure
from benchmarks.options import common
from benchmarks.rounds import in_turn, rivals, turns

CHECKPOINTS = 3
"""In one run; the first is one of its own, as all is new in it."""
AROUND = 0.5
"""Seconds around a checkpoint that are not counted as quiet."""
A_PART = 0.1
"""What is changed of the state in the runs that change a part of it."""
COPIES = ("copy", "copy_one_thread", "copy_shared", "copy_shared_one_thread")


class Steps:
    """When the steps of a program ended."""

    def __init__(self, ends: list[float]) -> None:
        self._ends = ends
        self.usual = median(later - earlier for earlier, later in pairwise(ends))
        """Seconds of an ordinary step."""

    def done(self, moment: float) -> float:
        """Steps up to a moment, in parts too."""
        place = min(max(bisect_right(self._ends, moment), 1), len(self._ends) - 1)
        began, ended = self._ends[place - 1], self._ends[place]
        return place - 1 + (moment - began) / (ended - began)

    def pace(self, since: float, until: float) -> float:
        """Steps in a second."""
        return (self.done(until) - self.done(since)) / (until - since)

    def stalled(self, since: float, until: float) -> tuple[float, float]:
        """The longest step that ended there: its length beyond the usual one, and when it ended."""
        first = max(1, bisect_right(self._ends, since))
        last = min(bisect_right(self._ends, until) + 1, len(self._ends))
        place = max(range(first, last), key=lambda n: self._ends[n] - self._ends[n - 1])
        return self._ends[place] - self._ends[place - 1] - self.usual, self._ends[place]


def start(folder: Path, size: int, tensors: int, every: float, *, changed: float, threads: int) -> job.Job:
    """The program under ckptd, with periodic checkpoints."""
    words = [str(job.PROGRAMS / "state.py"), "--size", str(size), "--tensors", str(tensors)]
    words += ["--changed", str(changed), "--threads", str(threads)]
    return job.Job(folder, words, options=["--every", f"{every:.3f}s"])


def train(
    folder: Path, size: int, tensors: int, every: float, *, changed: float, threads: int
) -> dict[str, float]:
    """One run: seconds blocked at the first checkpoint and at later ones, paces while one drains and while none."""
    with job.emptied(folder, "run") as place, start(
        place, size, tensors, every, changed=changed, threads=threads
    ) as run:  # fmt: skip
        run.pid()
        first = run.wait(job.STEP).time
        saved = [run.wait(job.SAVED, count=n + 1) for n in range(CHECKPOINTS)]
        run.wait(job.STEP, since=saved[-1].time, count=2)
        copied = run.lines(job.COPIED)[:CHECKPOINTS]
        steps = Steps([float(line.match[2]) for line in run.lines(job.STEP)])
    if len(copied) != CHECKPOINTS:
        raise click.ClickException(f"{len(copied)} copies for {CHECKPOINTS} checkpoints")
    blocked, draining, quiet = [], [], []
    before = first + AROUND
    for copy, save in zip(copied, saved, strict=True):
        asked = copy.time - float(copy.match[2])
        much, until = steps.stalled(asked - AROUND / 2, copy.time + AROUND / 2)
        blocked.append(much)
        if asked - AROUND > before:
            quiet.append(steps.pace(before, asked - AROUND))
        draining.append(steps.pace(until, max(save.time, until + steps.usual)))
        before = save.time + AROUND
    if not quiet:
        raise click.ClickException(f"checkpoints every {every:.1f} s follow too close on each other: --every")
    return {
        "first_blocked": blocked[0], "blocked": median(blocked[1:]), "pace_quiet": median(quiet),
        "pace_draining": median(draining),
    }  # fmt: skip


def rise(folder: Path, size: int, tensors: int, every: float) -> dict[str, float]:
    """Bytes of host memory that checkpoints took at most, beyond what was taken before and the state's size."""
    with job.emptied(folder, "run") as place, start(
        place, size, tensors, every, changed=1, threads=1
    ) as run:  # fmt: skip
        pid = run.pid()
        run.wait(job.STEP, count=20)
        before, _ = memory.taken(run.process.pid, pid, run.segments())  # shared memory may be there ahead
        taken = 0.0
        if run.lines(job.COPIED):
            raise click.ClickException("a checkpoint came before the training was under way: --every")
        while len(run.lines(job.SAVED)) < CHECKPOINTS - 1:
            taken = max(taken, sum(memory.taken(run.process.pid, pid, run.segments())))
            time.sleep(0.02)
            run.check()
    return {"memory_rise": taken - before, "memory_above": taken - before - size}


def measure(
    size: int, tensors: int, repeat: int, every: float, parent: Path | None, *, quiet: bool
) -> dict[str, Any]:
    """All rounds, their values by name, and the figures."""
    cores = len(os.sched_getaffinity(0))
    part = max(1, round(A_PART * tensors))
    with job.scratch(parent) as folder:
        started = dump(folder, size, tensors, at_once=True)["started"]
        every = every or started + 1.5 + 2 * size / 2**30  # some of it is quiet

        def ours(prefix: str, changed: float, threads: int) -> dict[str, float]:
            found = train(folder, size, tensors, every, changed=changed, threads=threads)
            return {f"{prefix}_{name}": value for name, value in found.items()}

        def part_copied() -> dict[str, float]:
            found = rivals(folder, size * part // tensors, part, only=COPIES)
            return {f"part_{name}": value for name, value in found.items()}

        saves = (*COPIES, "torch_save", "dcp_async_save")
        parts = [
            lambda: ours("all", 1, 1),
            lambda: rivals(folder, size, tensors, only=saves, times=3),
            lambda: ours("busy", 1, cores),
            part_copied,
            lambda: ours("part", part / tensors, 1),
            lambda: rise(folder, size, tensors, every),
        ]
        rounds = [in_turn(parts, turn) for turn in turns(repeat, quiet=quiet)]
        about = machine.describe(folder)
    values = figures.columns(rounds)
    return {
        "machine": about, "size": size, "tensors": tensors, "rounds": repeat, "every_seconds": every,
        "cores_busy": cores, "values": values, "figures": [each.describe() for each in compare(values)],
    }  # fmt: skip


def compare(values: dict[str, list[float]]) -> list[Figure]:
    """Ours beside the others."""
    touched = figures.quicker(values, "copy", "copy_one_thread")
    shared = figures.quicker(values, "copy_shared", "copy_shared_one_thread")
    part = figures.quicker(values, "part_copy", "part_copy_one_thread")
    blocked = values["all_blocked"]
    return [
        Figure("blocked, all changed", blocked, NAMES[touched], values[touched], 1.25),
        Figure("blocked, all changed", blocked, NAMES[shared], values[shared]),
        Figure("blocked, all changed", blocked, "dcp.async_save, blocked", values["dcp_async_blocked"]),
        Figure("blocked, all changed", blocked, "torch.save + fsync", values["torch_save"]),
        Figure("blocked, a tenth changed", values["part_blocked"], "copy of that tenth", values[part], 1.25),
        Figure("blocked, first checkpoint", values["all_first_blocked"], NAMES[touched], values[touched]),
        Figure("blocked, cores busy", values["busy_blocked"], NAMES[touched], values[touched]),
        Figure(
            "pace while draining, a core to spare", values["all_pace_draining"], "pace while quiet",
            values["all_pace_quiet"], 0.97, most=False, unit=" steps/s",
        ),
        Figure(
            "pace while draining, cores busy", values["busy_pace_draining"], "pace while quiet",
            values["busy_pace_quiet"], unit=" steps/s",
        ),
        Figure("memory above the state's size", values["memory_above"], bound=256 << 20, unit="B"),
    ]  # fmt: skip


def title(result: dict[str, Any]) -> str:
    """What was measured."""
    return (
        f"Periodic checkpoints of {figures.show(result['size'], 'B')} in {result['tensors']} tensors, "
        f"every {result['every_seconds']:.1f} s, {result['rounds']} rounds"
    )


def draw(result: dict[str, Any]) -> Path:
    """The picture of a result."""
    names = {
        "all_blocked": "ckptd: all changed", "busy_blocked": "ckptd: all changed, cores busy",
        "all_first_blocked": "ckptd: the first one", "copy": "copy, touched memory",
        "copy_one_thread": "copy, touched memory, 1 thread",
        "copy_shared": "copy, new shared memory", "dcp_async_blocked": "dcp.async_save",
        "torch_save": "torch.save + fsync", "part_blocked": "ckptd: a tenth changed",
        "part_copy_one_thread": "copy of that tenth, 1 thread",
    }  # fmt: skip
    shown = {label: result["values"][name] for name, label in names.items()}
    ours = {label for label in shown if label.startswith("ckptd")}
    return picture.bars("stall", f"Training blocked. {title(result)}", shown, ours, result)


@click.command()
@common(size="1G", tensors=200, repeat=3)
@click.option("--every", type=float, default=0, help="Seconds between checkpoints.  [default: by the size]")
def main(
    size: int, tensors: int, repeat: int, every: float, folder: Path | None, as_json: bool, keep: bool
) -> None:
    """What a periodic checkpoint costs a training that goes on."""
    result = measure(size, tensors, repeat, every, folder, quiet=as_json)
    machine.deliver(
        "stall",
        result,
        lambda: figures.tell(title(result), result["figures"]),
        as_json=as_json,
        kept=keep,
        draw=draw,
    )


if __name__ == "__main__":
    main()

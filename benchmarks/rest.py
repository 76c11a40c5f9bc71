"""What ckptd itself takes while a job trains and nothing else happens: share of a core, and memory.

Once before the first checkpoint and once behind one, of the supervisor's process alone.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks import figures, job, machine
from benchmarks.dump import FEW, SMALL, dump
from benchmarks.figures import Figure
from benchmarks.options import common
from benchmarks.rounds import turns

SETTLE = 1.0
"""Seconds behind a start or a checkpoint that are not counted."""


def watch(folder: Path, size: int, tensors: int, seconds: float) -> dict[str, float]:
    """One run: percent of a core, and bytes, before and behind a checkpoint."""
    with job.emptied(folder, "run") as place:
        words = [str(job.PROGRAMS / "state.py"), "--size", str(size), "--tensors", str(tensors)]
        # The program's start and both stretches of rest come before a second checkpoint.
        with job.Job(place, words, options=["--every", f"{3 * seconds + 10 * SETTLE:.1f}s"]) as run:
            run.pid()
            run.wait(job.STEP)
            before = _rest(run, seconds, "before")
            if run.lines(job.COPIED):
                raise click.ClickException("a checkpoint came while ckptd should be at rest: --seconds")
            run.wait(job.SAVED)
            behind = _rest(run, seconds, "behind")
            if len(run.lines(job.COPIED)) > 1:
                raise click.ClickException("a second checkpoint came too early: --seconds")
    return before | behind


def _rest(run: job.Job, seconds: float, when: str) -> dict[str, float]:
    time.sleep(SETTLE)
    used, began = _cpu(run.process.pid), time.monotonic()
    time.sleep(seconds)
    run.check()
    percent = 100 * (_cpu(run.process.pid) - used) / (time.monotonic() - began)
    about = psutil.Process(run.process.pid).memory_full_info()
    return {f"{when}_percent": percent, f"{when}_rss": float(about.rss), f"{when}_uss": float(about.uss)}


def _cpu(pid: int) -> float:
    """Seconds of CPU of all threads, to the nanosecond: ticks would be too coarse."""
    return sum(
        int((each / "schedstat").read_text().split()[0]) for each in Path(f"/proc/{pid}/task").iterdir()
    ) / 1e9  # fmt: skip


def measure(
    size: int, tensors: int, repeat: int, seconds: float, parent: Path | None, *, quiet: bool
) -> dict[str, Any]:
    """All rounds, their values by name, and the figures."""
    with job.scratch(parent) as folder:
        dump(folder, SMALL, FEW, at_once=True)
        rounds = [watch(folder, size, tensors, seconds) for _ in turns(repeat, quiet=quiet)]
        about = machine.describe(folder)
    values = figures.columns(rounds)
    return {
        "machine": about, "size": size, "tensors": tensors, "rounds": repeat, "watched_seconds": seconds,
        "values": values, "figures": [each.describe() for each in compare(values)],
    }  # fmt: skip


def compare(values: dict[str, list[float]]) -> list[Figure]:
    """All of them, before a checkpoint and behind one."""
    found = []
    for when, text in (("before", "before a checkpoint"), ("behind", "behind a checkpoint")):
        found += [
            Figure(f"share of a core, {text}", values[f"{when}_percent"], bound=0.5, unit=" %"),
            Figure(f"resident (RSS), {text}", values[f"{when}_rss"], bound=60 * 10**6, unit="B"),
            Figure(f"its own (USS), {text}", values[f"{when}_uss"], unit="B"),
        ]
    return found


@click.command()
@common(size="256M", tensors=200, repeat=3)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=8, show_default=True, help="Each watch.")
def main(
    size: int, tensors: int, repeat: int, seconds: float, folder: Path | None, as_json: bool, keep: bool
) -> None:
    """What ckptd itself takes while a job trains and nothing else happens."""
    result = measure(size, tensors, repeat, seconds, folder, quiet=as_json)
    machine.deliver(
        "rest",
        result,
        lambda: figures.tell(f"ckptd at rest, {seconds:g} s each, {repeat} rounds", result["figures"]),
        as_json=as_json,
        kept=keep,
    )


if __name__ == "__main__":
    main()

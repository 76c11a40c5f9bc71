"""What running under ckptd costs while nothing happens: per step, and from the start to the first step.

Runs of the same program, plain, under ckptd, and plain again, take turns: the second plain one beside the first
shows how much of a difference is noise. All work is deterministic; per run and length of step the lowest
tenth of the steps' times counts, as what else the machine does only adds; of the rounds the median. Time
by the clock is what people wait for; CPU time, of all threads, is what a busy machine spoils less.

    scripts/bench overhead [--repeat 9] [--json]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import machine

PROGRAM = Path(__file__).resolve().parent / "programs" / "steps.py"
LENGTHS = (200e-6, 1e-3, 5e-3, 20e-3)
"""Seconds of a step."""
SECONDS = 0.5
"""How long one run stays with one length."""
BOUNDS = {200e-6: 1.03, 5e-3: 1.005, 20e-3: 1.005}
"""The most that is allowed of a ratio."""
START_BOUND = 0.15
"""Seconds more to the first step that are allowed."""


@dataclass(frozen=True)
class Run:
    """One run of the program."""

    start: float
    """Seconds from its start to the end of its first step."""
    clock: list[float]
    """Lowest tenth of the seconds of a step, for each length."""
    cpu: list[float]
    """The same of its seconds of CPU."""


def _run(pairs: list[str], folder: Path, *, under: bool) -> Run:
    command = [sys.executable, str(PROGRAM), *pairs]
    if under:
        store = folder / "store"
        command = [
            sys.executable,
            "-m",
            "ckptd",
            "run",
            "-q",
            "--fresh",
            "--store",
            str(store),
            "--",
            *command,
        ]
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CKPTD_", "PYTHONDONT", "PYTHONPATH"))
    }
    began = time.time()
    done = subprocess.run(
        command, env={**env, "OMP_NUM_THREADS": "1"}, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    first, *rest = done.stdout.splitlines()
    times = [[float(word) for word in line.split()] for line in rest]
    tenths = [quantiles(each, n=10)[0] for each in times]
    return Run(float(first.split()[1]) - began, tenths[::2], tenths[1::2])


def _pairs(folder: Path) -> list[str]:
    """The program's arguments: how much work makes a step of each length on this machine."""
    few, many = _run(["10:400", "110:400"], folder, under=False).cpu
    unit, base = (many - few) / 100, few - (many - few) / 10
    amounts = [max(0, round((length - base) / unit)) for length in LENGTHS]
    return [f"{units}:{round(SECONDS / length)}" for units, length in zip(amounts, LENGTHS, strict=True)]


def _spread(values: list[float]) -> list[float]:
    """Lower quartile, median and upper quartile."""
    return list(quantiles(values, n=4, method="inclusive"))


def _compare(rounds: list[tuple[Run, Run, Run]], place: int, name: str) -> dict[str, list[float]]:
    """Ratios of one length of step: with ckptd to the mean of both plain ones, and these to each other."""
    times = [[getattr(run, name)[place] for run in each] for each in rounds]
    return {
        "ratio": _spread([2 * b / (a + c) for a, b, c in times]),
        "floor": _spread([c / a for a, _, c in times]),
    }


def measure(repeat: int, *, quiet: bool) -> dict[str, Any]:
    """All rounds; ratios and differences as [lower quartile, median, upper quartile] of them."""
    with tempfile.TemporaryDirectory(prefix="ckptd-bench-") as name:
        folder = Path(name)
        pairs = _pairs(folder)
        _run(pairs, folder, under=True)  # so that what is compiled once has been
        rounds: list[tuple[Run, Run, Run]] = []
        console = Console(stderr=True)
        turns = range(repeat)
        for _ in turns if quiet else track(turns, "measuring", console=console, transient=True):
            one = _run(pairs, folder, under=False)
            with_ckptd = _run(pairs, folder, under=True)
            rounds.append((one, with_ckptd, _run(pairs, folder, under=False)))
    steps = [
        {
            "step_seconds": length,
            "measured_seconds": median(one.cpu[place] for one, _, _ in rounds),
            **{name: _compare(rounds, place, name) for name in ("cpu", "clock")},
            "bound": BOUNDS.get(length),
        }
        for place, length in enumerate(LENGTHS)
    ]
    start = {
        "plain_seconds": median(a.start for a, _, _ in rounds),
        "more_seconds": _spread([b.start - (a.start + c.start) / 2 for a, b, c in rounds]),
        "floor_seconds": _spread([c.start - a.start for a, _, c in rounds]),
        "bound": START_BOUND,
    }
    return {"machine": machine.describe(), "rounds": repeat, "steps": steps, "start": start}


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="Cost of running under ckptd: median of the rounds (quartiles)")
    for heading in ("what", "plain", "", "with ckptd", "plain again (noise)", "bound"):
        table.add_column(heading, justify="left" if heading in ("what", "") else "right")
    for row in result["steps"]:
        for name in ("cpu", "clock"):
            table.add_row(
                f"step of {_time(row['step_seconds'])}", _time(row["measured_seconds"]), name,
                "{1:.4f} ({0:.4f} to {2:.4f})".format(*row[name]["ratio"]),
                "{1:.4f} ({0:.4f} to {2:.4f})".format(*row[name]["floor"]),
                f"{row['bound']:.3f}" if row["bound"] else "",
            )  # fmt: skip
    start = result["start"]
    table.add_row(
        "start to first step", _time(start["plain_seconds"]), "clock",
        "{1:+.3f} s ({0:+.3f} to {2:+.3f})".format(*start["more_seconds"]),
        "{1:+.3f} s ({0:+.3f} to {2:+.3f})".format(*start["floor_seconds"]),
        f"{start['bound']:+.2f} s",
    )  # fmt: skip
    return table


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


@click.command()
@click.option("--repeat", type=click.IntRange(min=2), default=9, show_default=True, help="Rounds.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--keep/--no-keep", default=True, show_default=True, help="Write benchmarks/results/overhead.json."
)
def main(repeat: int, as_json: bool, keep: bool) -> None:
    """What running under ckptd costs while nothing happens."""
    result = measure(repeat, quiet=as_json)
    machine.deliver("overhead", result, lambda: Console().print(_table(result)), as_json=as_json, kept=keep)


if __name__ == "__main__":
    main()

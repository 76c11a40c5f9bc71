"""How many preemptions cost nothing: the work is saved, and the next start goes on at the very step.

Programs like the two examples run under ``ckptd run``. SIGTERM goes to all processes at once, ckptd's own and
DataLoader workers included, as when a container, a unit or a Slurm step ends; when the grace is over whatever is
left gets SIGKILL. Then the same command is given again, and is preempted again in its next phase. A preemption
counts as survived if the next start prints the line that was due, and no line twice: each step prints one. At the
end all output and all files must be a plain run's, else none of the chain counts.
"""

from __future__ import annotations

import json
import random
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks import figures, job, machine
from benchmarks.options import parse_size

SHAPES = {"charlm": "flat.py", "digits": "epochs.py"}
"""By the example that each is like."""
PHASES = {
    "data loading": (re.compile("loading "), 0.2),
    "long step": (re.compile("long "), 0.3),
    "training": (re.compile("training "), 0.05),
    "during another dump": (job.COPIED, 0.05),
    "evaluation": (re.compile("evaluation "), 0.25),
}
"""The line behind which a phase is, and for how many seconds; in the order in which a turn of the programs has them."""
EVERY_STEPS = 6
"""Periodic dumps, so that there are others to come in between."""
SLACK = 4
"""Turns of the program that are left over, and more in proportion."""


@dataclass
class Trial:
    """One preemption."""

    shape: str
    size: int
    grace: float
    phase: str
    seconds: float
    """From the signal to the end of the last process."""
    killed: bool
    """Something was left when the grace was over."""
    lost: int
    """Steps that the next start did again; -1: its output was wrong."""
    wrong: str = ""
    """The first line then that a plain run doesn't print there."""


class Chain:
    """One program that is preempted again and again, to its end."""

    def __init__(self, folder: Path, shape: str, size: int, grace: float, turns: int) -> None:
        self.folder, self.shape, self.size, self.grace = folder, shape, size, grace
        self.words = [str(job.PROGRAMS / SHAPES[shape]), "--bytes", str(size), "--turns", str(turns)]
        self.at = 0
        """How many of the plain run's lines have been printed."""
        self.left: list[str] = []
        """Phases that it came to its end before: it is not known beforehand which turn a phase is met in."""

    def run(self, plan: Sequence[str], plain: list[str], files: dict[str, bytes]) -> Iterator[Trial]:
        """Preempt it in those phases; each trial is given out when the next start has shown what it cost."""
        before: Trial | None = None
        trials: list[Trial] = []
        for number, phase in enumerate([*plan, ""]):
            with self._start() as run:
                first = run.wait(re.compile("(?!ckptd: )")).text
                if before is not None:
                    before.lost = self._lost(first, plain)
                trial = self._preempt(run, phase) if phase else None
                if trial is not None:
                    trials.append(trial)
                run.finish()
                said = [line.text for line in run.lines(re.compile("(?!ckptd: )"))]
            due = plain[self.at :]
            wrong = next((line for line, other in zip_longest(said, due[: len(said)]) if line != other), None)
            self.at += len(said)
            blamed = before or trial  # what a start prints is owed to the preemption before it
            if blamed is not None and wrong is not None:
                blamed.lost, blamed.wrong = -1, wrong
            before = trial
            if trial is None:
                self.left = list(plan[number:])
                break
        present = {p.name: p.read_bytes() for p in self.folder.iterdir() if p.is_file()}
        if self.at != len(plain) or present != files:
            for each in trials:
                each.lost = each.lost or -1
        yield from trials

    def _start(self) -> job.Job:
        options = ["--grace", f"{self.grace:g}s", "--every", f"{EVERY_STEPS}steps"]
        return job.Job(self.folder, self.words, options=options)

    def _lost(self, first: str, plain: list[str]) -> int:
        """Steps between the line that a new start prints first and the one that was due; goes back to it."""
        if first not in plain[: self.at + 1]:
            return -1
        back = plain.index(first)
        lost = sum(line.startswith("training ") for line in plain[back : self.at])
        again, self.at = back < self.at, back
        return max(lost, 1) if again else 0

    def _preempt(self, run: job.Job, phase: str) -> Trial | None:
        """None: it came to its end before it came to that phase."""
        pattern, length = PHASES[phase]
        shown = run.wait(re.compile("(?!ckptd: )")).time  # it has resumed
        try:
            run.wait(pattern, since=shown)
        except job.EndedError:
            return None
        time.sleep(random.uniform(0, length))
        own = psutil.Process(run.process.pid)
        everyone = [*own.children(recursive=True), own]
        began = time.monotonic()
        for each in everyone:
            _send(each, signal.SIGTERM)
        _, left = psutil.wait_procs([own], self.grace)
        left += [each for each in everyone if each is not own and _runs(each)]
        seconds = time.monotonic() - began
        for each in left:
            _send(each, signal.SIGKILL)
        run.finish()
        return Trial(self.shape, self.size, self.grace, phase, seconds, bool(left), 0)


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return  # it has ended meanwhile


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def measure(
    trials: int,
    graces: Sequence[float],
    sizes: Sequence[int],
    parent: Path | None,
    keep: Callable[[dict[str, Any]], None],
    *,
    quiet: bool,
) -> dict[str, Any]:
    """All trials, and the cells of the table. ``keep`` is given what there is after each size and grace."""
    each = -(-trials // len(SHAPES))
    turns = each + each // 2 + SLACK
    plan = [*PHASES] * each
    found: list[Trial] = []
    result: dict[str, Any] = {}
    began = time.monotonic()
    with job.scratch(parent) as folder, Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("preempting", total=len(SHAPES) * len(sizes) * len(graces) * len(plan))
        for size in sizes:
            plains = {shape: _plain(folder, shape, size, turns) for shape in SHAPES}
            for grace in graces:
                for shape, (plain, files) in plains.items():
                    todo = list(plan)
                    while todo:
                        with job.emptied(folder, "chain") as place:
                            chain = Chain(place, shape, size, grace, turns)
                            for trial in chain.run(todo, plain, files):
                                found.append(trial)
                                progress.advance(task)
                            todo = chain.left
                result = {
                    "machine": machine.describe(folder), "trials": trials,
                    "minutes": round((time.monotonic() - began) / 60, 1),
                    "cells": cells(found), "all": [asdict(trial) for trial in found],
                }  # fmt: skip
                keep(result)
    return result


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What was measured before, but for the sizes and graces that were measured anew."""
    fresh = {(cell["size"], cell["grace"]) for cell in new["cells"]}
    whole = dict(new)
    for name in ("cells", "all"):
        kept = [each for each in old.get(name, []) if (each["size"], each["grace"]) not in fresh]
        whole[name] = sorted(
            [*kept, *new[name]],
            key=lambda each: (each["size"], [*PHASES].index(each["phase"]), each["grace"]),
        )
    return whole


def _plain(folder: Path, shape: str, size: int, turns: int) -> tuple[list[str], dict[str, bytes]]:
    """What the program prints and writes when nobody disturbs it."""
    with job.emptied(folder, "plain") as place:
        words = [str(job.PROGRAMS / SHAPES[shape]), "--bytes", str(size), "--turns", str(turns)]
        with job.Job(place, words, under=False) as run:
            run.finish()
            lines = [line.text for line in run.lines(re.compile(""))]
        return lines, {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}


def cells(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """By size, phase and grace: how many there were, and how many cost nothing."""
    keys = sorted({(t.size, [*PHASES].index(t.phase), t.grace) for t in trials})
    found = []
    for size, place, grace in keys:
        phase = [*PHASES][place]
        of = [t for t in trials if (t.size, t.phase, t.grace) == (size, phase, grace)]
        found.append({
            "size": size, "phase": phase, "grace": grace, "trials": len(of),
            "saved": sum(t.lost == 0 for t in of), "killed": sum(t.killed for t in of),
            "wrong": sum(t.lost < 0 for t in of), "steps_lost": sum(max(t.lost, 0) for t in of),
            "wrong_lines": [t.wrong for t in of if t.wrong],
            "seconds": [median(t.seconds for t in of), max(t.seconds for t in of)],
        })  # fmt: skip
    return found


def table(result: dict[str, Any]) -> str:
    """The table as Markdown: % of preemptions that cost nothing, and the longest time to the end of all processes."""
    graces = sorted({cell["grace"] for cell in result["cells"]})
    head = ["state", "phase", *(f"grace {grace:g} s" for grace in graces)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for size, phase in dict.fromkeys((cell["size"], cell["phase"]) for cell in result["cells"]):
        row = [cell for cell in result["cells"] if (cell["size"], cell["phase"]) == (size, phase)]
        shown = [
            f"{100 * cell['saved'] / cell['trials']:.0f} % of {cell['trials']} ({cell['seconds'][1]:.1f} s)"
            for cell in row
        ]
        lines.append("| " + " | ".join([figures.show(size, "B"), phase, *shown]) + " |")
    return "\n".join(lines)


@click.command()
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True, help="In each cell.")
@click.option("--grace", "graces", type=float, multiple=True, default=(5, 10, 30, 120), show_default=True)
@click.option(
    "--size", "sizes", type=parse_size, multiple=True, default=("1M", "256M", "1G"), show_default=True,
    help="Of the state.",
)  # fmt: skip
@click.option(
    "--folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="On the disk to be used.  [default: where temporary files go]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--keep/--no-keep", default=True, show_default=True, help="Write benchmarks/results/survival.json."
)
def main(
    trials: int,
    graces: tuple[float, ...],
    sizes: tuple[int, ...],
    folder: Path | None,
    as_json: bool,
    keep: bool,
) -> None:
    """How many preemptions cost nothing, by grace, phase and size of the state."""
    path = machine.RESULTS / "survival.json"
    old = json.loads(path.read_text()) if keep and path.exists() else {}

    def kept(result: dict[str, Any]) -> None:
        if keep:  # after each size and grace: it takes hours, and may be run in parts
            machine.keep("survival", merged(old, result))

    result = merged(old, measure(trials, graces, sizes, folder, kept, quiet=as_json))

    def show() -> None:
        print(table(result))
        print(f"\n{sum(cell['trials'] for cell in result['cells'])} preemptions")

    machine.deliver("survival", result, show, as_json=as_json, kept=keep)


if __name__ == "__main__":
    main()

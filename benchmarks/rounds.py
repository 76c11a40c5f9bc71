"""Rounds: in each, everything that is compared is done once, in an order that changes from round to round."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from benchmarks import job


def turns(repeat: int, *, quiet: bool) -> Iterable[int]:
    """The numbers of the rounds; shows how far they are, on stderr."""
    console = Console(stderr=True)
    return track(range(repeat), "measuring", console=console, transient=True, disable=quiet)


def in_turn(parts: list[Callable[[], dict[str, float]]], turn: int) -> dict[str, float]:
    """Do all of one round; another one begins each time."""
    first = turn % len(parts)
    found: dict[str, float] = {}
    for part in (*parts[first:], *parts[:first]):
        found |= part()
    return found


def rivals(
    folder: Path, size: int, tensors: int, turn: int = 0, *, only: Sequence[str] = (), times: int = 1
) -> dict[str, float]:
    """Seconds of each other way, by name; see programs/rivals.py. ``only`` those, if any are named."""
    with job.emptied(folder, "rivals") as place:
        more = ["--first", str(turn), "--times", str(times), *(["--only", *only] if only else [])]
        return run_rivals(place, size, tensors, more)


def run_rivals(place: Path, size: int, tensors: int, more: Sequence[str]) -> dict[str, float]:
    """What programs/rivals.py prints; it works in ``place``. Raises ClickException if it fails."""
    words = ["--size", str(size), "--tensors", str(tensors), "--folder", str(place), *more]
    command = [sys.executable, str(job.PROGRAMS / "rivals.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=job.PATIENCE)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-800:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found

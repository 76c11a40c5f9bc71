"""Rounds: in each, everything that is compared is done once, in an order that changes from round to round."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
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


def rivals(folder: Path, size: int, tensors: int, turn: int, only: tuple[str, ...] = ()) -> dict[str, float]:
    """Seconds of each other way, by name; see programs/rivals.py."""
    with job.emptied(folder, "rivals") as place:
        words = ["--size", str(size), "--tensors", str(tensors), "--folder", str(place), "--first", str(turn)]
        command = [
            sys.executable,
            str(job.PROGRAMS / "rivals.py"),
            *words,
            *(["--only", *only] if only else []),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=job.PATIENCE)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-800:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found

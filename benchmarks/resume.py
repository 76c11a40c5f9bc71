"""How long a relaunch takes to its first step, beside a plain start and a plain read of the state.

A program is stopped by SIGTERM and started again by ckptd, on the same host; counted from the end of the old process to
the end of the first new step. Then ``ckptd run`` is started anew on that store, once with its files out of the page
cache, as behind a reboot, once with them in it. In the same round: the program started plain; a file of the same bytes
read, cold and cached; and programs that load the state themselves at their start, from files out of the page cache.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks import figures, job, machine, picture
from benchmarks.dump import FEW, SMALL, dump
from benchmarks.figures import Figure
from benchmarks.options import common
from benchmarks.rounds import in_turn, rivals, run_rivals, turns

LOADERS = {
    "torch": ("torch_save", "saved.pt"),
    "safetensors": ("safetensors", "saved.safetensors"),
    "dcp": ("dcp_save", "dcp"),
}
"""How programs/state.py loads: what programs/rivals.py writes for it, and under which name."""


def program(size: int, tensors: int) -> list[str]:
    """The words of the program."""
    return [str(job.PROGRAMS / "state.py"), "--size", str(size), "--tensors", str(tensors)]


def relaunch(folder: Path, size: int, tensors: int) -> dict[str, float]:
    """A stop and the relaunch by the same ckptd, then two new starts of ckptd; seconds to the first step of each."""
    words = program(size, tensors)
    with job.emptied(folder, "run") as place:
        with job.Job(place, words) as run:
            pid = run.pid()
            run.settle()
            signalled = time.monotonic()
            os.kill(pid, signal.SIGTERM)
            gone = job.wait_gone(pid)
            first = run.wait(job.STEP, since=gone).time
            inside = float(run.wait(job.RESUMED).match[2])
        found = {"relaunch": first - gone, "down": first - signalled, "replay": inside}
        for name in ("cold", "cached"):
            if name == "cold":
                evict(place)
            with job.Job(place, words) as run:
                found[name] = run.wait(job.STEP).time - run.began
                run.wait(job.RESUMED)  # else it has begun anew
    return found


def plain(folder: Path, words: list[str]) -> float:
    """Seconds from the start of a program to the end of its first step, without ckptd."""
    with job.emptied(folder, "run") as place, job.Job(place, words, under=False) as run:
        return run.wait(job.STEP).time - run.began


def evict(folder: Path) -> None:
    """Take a folder's files out of the page cache; all have been written to the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)  # a page that isn't on the disk yet would stay
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def measure(size: int, tensors: int, repeat: int, parent: Path | None, *, quiet: bool) -> dict[str, Any]:
    """All rounds, their seconds by name, and the figures."""
    words = program(size, tensors)
    with job.scratch(parent) as folder:
        dump(folder, SMALL, FEW, at_once=True)
        saved = folder / "saved"
        saved.mkdir()
        run_rivals(saved, size, tensors, ["--only", *(way for way, _ in LOADERS.values()), "--leave"])

        def load(kind: str) -> dict[str, float]:
            evict(saved)
            path = saved / LOADERS[kind][1]
            return {f"load_{kind}": plain(folder, [*words, "--load", kind, str(path)])}

        reads = ("read", "read_direct", "read_cached")
        parts: list[Callable[[], dict[str, float]]] = [
            lambda: relaunch(folder, size, tensors),
            lambda: {"start": plain(folder, words)},
            lambda: rivals(folder, size, tensors, only=reads),
            *(partial(load, kind) for kind in LOADERS),
        ]
        rounds = [in_turn(parts, turn) for turn in turns(repeat, quiet=quiet)]
        about = machine.describe(folder)
    for each in rounds:
        cold = min(each.get("read_direct", each["read"]), each["read"])
        each["start_and_read"] = each["start"] + cold
        each["start_and_read_cached"] = each["start"] + min(cold, each["read_cached"])
    seconds = figures.columns(rounds)
    return {
        "machine": about, "size": size, "tensors": tensors, "rounds": repeat, "seconds": seconds,
        "figures": [each.describe() for each in compare(seconds)],
    }  # fmt: skip


def compare(seconds: dict[str, list[float]]) -> list[Figure]:
    """Ours beside the others."""

    def beside(name: str, other: str, bound: float | None = None) -> Figure:
        return Figure(NAMES[name].removeprefix("ckptd: "), seconds[name], NAMES[other], seconds[other], bound)

    return [
        beside("relaunch", "start_and_read_cached", 1.2),
        beside("cached", "start_and_read_cached"),
        beside("cold", "start_and_read", 1.2),
        *(beside("cold", f"load_{kind}") for kind in LOADERS),
        Figure("signal to first step again", seconds["down"]),
        Figure("of it: replay and restore", seconds["replay"]),
    ]


NAMES = {
    "relaunch": "ckptd: relaunch to first step", "cached": "ckptd: ckptd run to first step, cached",
    "cold": "ckptd: ckptd run to first step, cold", "start": "plain start",
    "start_and_read_cached": "plain start + cached read", "start_and_read": "plain start + cold read",
    "load_torch": "torch.load in the program, cold", "load_safetensors": "safetensors in the program, cold",
    "load_dcp": "dcp.load in the program, cold",
}  # fmt: skip


def title(result: dict[str, Any]) -> str:
    """What was measured."""
    return f"Resume of {figures.show(result['size'], 'B')} in {result['tensors']} tensors, {result['rounds']} rounds"


def draw(result: dict[str, Any]) -> Path:
    """The picture of a result."""
    shown = {label: result["seconds"][name] for name, label in NAMES.items()}
    ours = {label for label in shown if label.startswith("ckptd")}
    return picture.bars("resume", title(result), shown, ours, result)


@click.command()
@common(size="1G", tensors=200, repeat=5)
def main(size: int, tensors: int, repeat: int, folder: Path | None, as_json: bool, keep: bool) -> None:
    """How long a relaunch takes to its first step, beside plain starts and other ways to load."""
    result = measure(size, tensors, repeat, folder, quiet=as_json)
    machine.deliver(
        "resume",
        result,
        lambda: figures.tell(title(result), result["figures"]),
        as_json=as_json,
        kept=keep,
        draw=draw,
    )


if __name__ == "__main__":
    main()

"""How long a dump takes: from the signal until it is safe in memory, and until it is durable on the disk.

A plain program with that state runs under ``ckptd run``; SIGTERM goes to the program. ckptd's own words (``-v``) say
when the copy was complete and when the checkpoint was committed; what counts is when they arrive. In the same
round, in an order that changes, a process with the same state copies it plainly, writes it plainly and saves it in
the ways that a user could; each ends with fsync, and is removed, durably, before the next begins.
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
from benchmarks.figures import Figure
from benchmarks.options import common
from benchmarks.rounds import in_turn, rivals, turns

FEW = 10
"""Tensors that many with the same bytes are compared with."""
WARM_STEPS = 5
"""Steps before the signal."""
SMALL = 1 << 20
"""Bytes of the state of a run before all others, which has Python compile what it compiles once."""


NO_OTHER = ("--every", "24h")
"""A large state takes longer to be made ready than the first periodic checkpoint is away."""


def dump(folder: Path, size: int, tensors: int, *, at_once: bool = False) -> dict[str, float]:
    """One dump: seconds from the signal until it is safe and durable, and that training stood still.

    And, as ``started``, from the launch until some steps were done. The signal comes then if ``at_once``, else when
    ckptd has made ready what it makes ready ahead.
    """
    words = [str(job.PROGRAMS / "state.py"), "--size", str(size), "--tensors", str(tensors)]
    with job.emptied(folder, "run") as place, job.Job(place, words, options=NO_OTHER) as run:
        pid = run.pid()
        started = run.wait(job.STEP, count=WARM_STEPS).time - run.began
        if not at_once:
            run.settle()
        signalled = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        copied = run.wait(job.COPIED)
        saved = run.wait(job.SAVED)
        run.stop()  # it doesn't start the program again
        run.finish()
    return {
        "safe": copied.time - signalled,
        "durable": saved.time - signalled,
        "stood_still": float(copied.match[2]),
        "started": started,
    }


def measure(
    size: int, tensors: int, many: int, at_once: bool, repeat: int, parent: Path | None, *, quiet: bool
) -> dict[str, Any]:
    """All rounds, their seconds by name, and the figures. ``many`` 0: no comparison of numbers of tensors."""
    with job.scratch(parent) as folder:
        dump(folder, SMALL, FEW, at_once=True)

        def ours(count: int, prefix: str) -> dict[str, float]:
            return {
                f"{prefix}_{name}": value
                for name, value in dump(folder, size, count, at_once=at_once).items()
            }

        def others(turn: int) -> dict[str, float]:
            return rivals(folder, size, tensors, turn)

        def parts(turn: int) -> list[Callable[[], dict[str, float]]]:
            beside = [partial(ours, many, "many"), partial(ours, FEW, "few")] if many else []
            return [partial(ours, tensors, "ckptd"), partial(others, turn), *beside]

        rounds = [in_turn(parts(turn), turn) for turn in turns(repeat, quiet=quiet)]
        about = machine.describe(folder)
    seconds = figures.columns(rounds)
    return {
        "machine": about, "size": size, "tensors": tensors, "many": many, "at_once": at_once, "rounds": repeat,
        "seconds": seconds, "figures": [each.describe() for each in compare(seconds, many)],
    }  # fmt: skip


def compare(seconds: dict[str, list[float]], many: int) -> list[Figure]:
    """Ours beside the others."""
    safe, durable = seconds["ckptd_safe"], seconds["ckptd_durable"]

    def beside(what: str, own: list[float], name: str, text: str, bound: float | None = None) -> Figure:
        return Figure(what, own, text, seconds[name], bound)

    plain = figures.quicker(seconds, *(name for name in ("write", "write_direct") if name in seconds))
    touched = figures.quicker(seconds, "copy", "copy_one_thread")
    shared = figures.quicker(seconds, "copy_shared", "copy_shared_one_thread")
    to_safe, to_durable = "signal to safe in memory", "signal to durable"
    return [
        *(
            beside(to_safe, safe, name, NAMES[name], 1.5 if name in (touched, shared) else None)
            for name in ("copy", "copy_one_thread", "copy_shared", "copy_shared_one_thread")
        ),
        beside("training stood still", seconds["ckptd_stood_still"], touched, NAMES[touched]),
        beside(to_durable, durable, plain, f"plain {NAMES[plain]} + fsync", 1.15),
        *(
            beside(to_durable, durable, name, NAMES[name], 0.6 if name == "torch_save" else None)
            for name in ("torch_save", "safetensors", "dcp_save", "dcp_async_save")
        ),
        *(_by_number(seconds, many) if many else []),
    ]


def _by_number(seconds: dict[str, list[float]], many: int) -> list[Figure]:
    beside = f"same bytes, {FEW} tensors"
    return [
        Figure(f"durable, {many} tensors", seconds["many_durable"], beside, seconds["few_durable"], 2),
        Figure(f"safe, {many} tensors", seconds["many_safe"], beside, seconds["few_safe"]),
    ]


NAMES = {
    "ckptd_safe": "ckptd: signal to safe in memory", "copy": "copy, touched memory",
    "copy_one_thread": "copy, touched memory, 1 thread", "copy_shared": "copy, new shared memory",
    "copy_shared_one_thread": "copy, new shared memory, 1 thread",
    "ckptd_durable": "ckptd: signal to durable", "write": "write", "write_direct": "O_DIRECT write",
    "torch_save": "torch.save + fsync", "safetensors": "safetensors + fsync", "dcp_save": "dcp.save",
    "dcp_async_save": "dcp.async_save, until durable",
    "many_durable": "ckptd: durable, many tensors", "few_durable": f"ckptd: durable, {FEW} tensors",
}  # fmt: skip


def draw(result: dict[str, Any]) -> Path:
    """The picture of a result."""
    shown = {label: result["seconds"][name] for name, label in NAMES.items() if name in result["seconds"]}
    ours = {label for label in shown if label.startswith("ckptd")}
    return picture.bars(name(result), title(result), shown, ours, result)


def name(result: dict[str, Any]) -> str:
    """What it is kept as."""
    return "dump-at-once" if result["at_once"] else "dump"


def title(result: dict[str, Any]) -> str:
    """What was measured."""
    when = ", at once behind the start" if result["at_once"] else ""
    size = figures.show(result["size"], "B")
    return f"Dump of {size} in {result['tensors']} tensors{when}, {result['rounds']} rounds"


@click.command()
@common(size="1G", tensors=200, repeat=5)
@click.option(
    "--many", type=click.IntRange(min=0), default=10_000, show_default=True,
    help="Small tensors whose dump is set beside that of ten; 0: don't.",
)  # fmt: skip
@click.option("--at-once", is_flag=True, help="Right after the first steps: nothing has been made ready yet.")
def main(
    size: int,
    tensors: int,
    many: int,
    at_once: bool,
    repeat: int,
    folder: Path | None,
    as_json: bool,
    keep: bool,
) -> None:
    """How long a dump takes, beside copies, writes and other ways to save."""
    result = measure(size, tensors, many, at_once, repeat, folder, quiet=as_json)
    machine.deliver(
        name(result),
        result,
        lambda: figures.tell(title(result), result["figures"]),
        as_json=as_json,
        kept=keep,
        draw=draw,
    )


if __name__ == "__main__":
    main()

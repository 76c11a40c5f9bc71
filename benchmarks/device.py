"""Dumps of what lies on a CUDA device: how long training stands still, and how fast the bytes come over.

Each round copies the same state in three ways: by torch into pinned memory, which is what the bus gives; by a dump that
training waits for; and by one that sets the state aside on the device and brings it over behind training.

    scripts/bench device [--size 10G] [--tensors 500] [--repeat 5] [--json]
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.options import parse_size

WAYS = {
    "pinned": "torch, into pinned memory",
    "waited": "a dump that training waits for",
    "blocked": "training stands still, state set aside",
    "behind": "until all of it is in shared memory",
}


def pinned(state: list[torch.Tensor], places: list[torch.Tensor]) -> float:
    """Seconds of a plain copy."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    for place, each in zip(places, state, strict=True):
        place.copy_(each, non_blocking=True)
    torch.cuda.synchronize()
    return time.perf_counter() - began


def dumped(state: list[torch.Tensor], number: int) -> dict[str, float]:
    """Seconds of both kinds of dump, each of a state that has changed."""
    from ckptd_agent import drain, rooms

    def changed() -> Any:
        from ckptd_agent.graph.capture import Capture

        for each in state:
            each.add_(1)
        torch.cuda.synchronize()
        capture = Capture()
        capture.child(state)
        capture.run()
        return capture

    capture = changed()
    began = time.perf_counter()
    drain.drain(capture, b"", {}, f"{number}a", lambda _: None)
    waited = time.perf_counter() - began
    rooms.answered(f"{number}a")
    came = threading.Event()
    capture = changed()
    began = time.perf_counter()
    path = drain.drain_behind(capture, b"", {}, f"{number}b", lambda *_: came.set())
    blocked = time.perf_counter() - began
    if path is not None:
        raise click.ClickException("the device has no room to set the state aside")
    came.wait()
    whole = time.perf_counter() - began
    rooms.answered(f"{number}b")
    return {"waited": waited, "blocked": blocked, "behind": whole}


def measure(size: int, tensors: int, repeat: int) -> dict[str, Any]:
    """All rounds: seconds of each way, medians, and bytes a second."""
    from ckptd_agent import rooms

    state = [torch.randn(size // tensors // 4, device="cuda") for _ in range(tensors)]
    nbytes = sum(each.nbytes for each in state)
    places = [torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in state]
    rooms.prepare(nbytes)
    while rooms._preparing:
        time.sleep(0.05)
    dumped(state, -1)  # which makes what later ones use again
    rounds = [{"pinned": pinned(state, places), **dumped(state, number)} for number in range(repeat)]
    found = {name: median(each[name] for each in rounds) for name in WAYS}
    return {
        "machine": {**machine.describe(), "device": torch.cuda.get_device_name()},
        "bytes": nbytes,
        "tensors": tensors,
        "seconds": found,
        "rate_to_pinned": {name: found["pinned"] / found[name] for name in ("waited", "behind")},
    }


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['bytes'] / 2**30:.1f} GiB on {result['machine']['device']}")
    for heading in ("what", "seconds", "GiB/s"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for name, words in WAYS.items():
        seconds = result["seconds"][name]
        rate = "" if name == "blocked" else f"{result['bytes'] / 2**30 / seconds:.1f}"
        table.add_row(words, f"{seconds:.3f}", rate)
    return table


@click.command()
@click.option(
    "--size", type=parse_size, metavar="SIZE", default="10G", show_default=True, help="Of the state."
)
@click.option("--tensors", type=click.IntRange(min=1), default=500, show_default=True, help="In so many.")
@click.option("--repeat", type=click.IntRange(min=1), default=5, show_default=True, help="Rounds.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--keep/--no-keep", default=True, show_default=True, help="Write benchmarks/results/device.json."
)
def main(size: int, tensors: int, repeat: int, as_json: bool, keep: bool) -> None:
    """Dumps of what lies on a CUDA device."""
    if not torch.cuda.is_available():
        raise click.ClickException("there is no CUDA device here")
    with tempfile.TemporaryDirectory(prefix="ckptd-bench-", dir="/dev/shm") as folder:
        os.environ["CKPTD_SEGMENTS"] = str(Path(folder))
        result = measure(size, tensors, repeat)
    machine.deliver("device", result, lambda: Console().print(_table(result)), as_json=as_json, kept=keep)


if __name__ == "__main__":
    main()

"""A job with thousands of checkpoints: what listing them takes, and what a commit takes beside them.

All but a few of them are copies of one, each with a manifest and an id of its own and links to the same files.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import machine
from ckptd.memory.room import Room
from ckptd.memory.segment import Segment, SegmentWriter, arrange
from ckptd.store import index, layout, removal
from ckptd.store.draft import Way
from ckptd.store.job import JobRecord
from ckptd.store.known import Known
from ckptd.store.manifest import FORMAT, MANIFEST, Manifest, encode
from ckptd.store.reader import newest_valid
from ckptd.store.retention import Policy
from ckptd.store.seen import Seen
from ckptd.store.verify import read_manifest
from ckptd.store.writer import write_checkpoint

JOB = "0123abcd"
ROUNDS = 15
ALL = Policy(every_steps=1)
"""Keeps every one, but looks at each."""
GRAPH = bytes.fromhex("82a776657273696f6e01a56e6f64657390")


class Bench:
    """A store with one job, whose checkpoints become more."""

    def __init__(self, place: Path) -> None:
        self.store = place / "store"
        self.folder = layout.open_store(self.store).job(JOB)
        self.folder.save(JobRecord(JOB, "many", ["python", "train.py"], "/train", time.time()))
        self._way = Way(Known())
        self._seen = Seen(self.folder)
        self._step = 0
        self._segment = place / "segment"
        tensors = arrange([("weight", "F32", 40_000), ("bias", "F32", 400)])
        facts = {"loss": 0.5, "loss_mean": 0.6, "lr": [0.1], "step_seconds": 0.2, "argv": ["train.py"]}
        writer = SegmentWriter(Room(self._segment), tensors, GRAPH, facts)
        writer.put(0, os.urandom(writer.data_nbytes))
        writer.finish()

    def commit(self) -> Path:
        """One more, in full."""
        self._step += 1
        manifest = Manifest(
            format=FORMAT, id=layout.new_id(), job=JOB, name="many", step=self._step, created=time.time(),
            reason="periodic", attempt=1, host="here", files=[],
        )  # fmt: skip
        self._way.known.forget()  # so that each writes as much
        with Segment(self._segment) as segment:
            return write_checkpoint(self.folder, segment, manifest, self._way)[0]

    def grow(self, count: int, *, quiet: bool = True) -> None:
        """Have ``count`` checkpoints: copies of the newest, with lines in the index as commits add them."""
        model = self.commit()
        manifest = read_manifest(model)
        have = len(index.folder_names(self.folder))
        with open(self.folder.path / index.INDEX, "ab") as file:
            for _ in track(range(count - have), f"{count} checkpoints", disable=quiet):
                self._step += 1
                mine = replace(manifest, step=self._step, id=layout.new_id())
                path = self.folder.checkpoints / mine.folder
                path.mkdir(mode=0o700)
                for entry in mine.files:
                    os.link(model / entry.name, path / entry.name)
                (path / MANIFEST).write_bytes(encode(mine))
                file.write(index._line(path, index.entry_of(path, mine)))

    def measure(self) -> dict[str, float]:
        """Medians, in milliseconds."""
        return {
            "commit_ms": pace(self.commit),
            "retain_ms": pace(self._retain, 5),
            "newest_ms": pace(lambda: newest_valid(self.folder), 5),
            "ls_ms": pace(self.ls, 5),
        }

    def _retain(self) -> None:
        path = self.folder.checkpoints / index.folder_names(self.folder)[-1]
        removal.retain(self.folder, ALL, path, 0, self._seen)

    def ls(self) -> None:
        """The whole verb, in a process of its own."""
        command = [sys.executable, "-m", "ckptd", "ls", "--store", str(self.store)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def pace(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The median time of some rounds, in milliseconds."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return round(statistics.median(times) * 1000, 2)


def measure(counts: list[int], *, quiet: bool) -> dict[str, Any]:
    """Figures for each number of checkpoints."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ckptd-store-") as place:
        bench = Bench(Path(place))
        for count in counts:
            bench.grow(count, quiet=quiet)
            figures[str(count)] = bench.measure()
        (bench.folder.path / index.INDEX).unlink()
        figures["without_index"] = {"ls_ms": pace(bench.ls, 3)}
    return {"checkpoints": figures, "machine": machine.describe()}


def _table(result: dict[str, Any]) -> Table:
    table = Table("checkpoints", "commit", "retention after it", "find the newest", "ckptd ls")
    for count, own in result["checkpoints"].items():
        cells = [own.get(key) for key in ("commit_ms", "retain_ms", "newest_ms", "ls_ms")]
        table.add_row(count.replace("_", " "), *("" if cell is None else f"{cell} ms" for cell in cells))
    return table


@click.command()
@click.option("--count", multiple=True, type=int, default=[10, 1000, 10_000], show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.option("--keep", is_flag=True, help="Write benchmarks/results/store.json.")
def main(count: tuple[int, ...], as_json: bool, keep: bool) -> None:
    """What a job's checkpoints cost when they are many."""
    result = measure(sorted(count), quiet=as_json)
    machine.deliver("store", result, lambda: Console().print(_table(result)), as_json=as_json, kept=keep)


if __name__ == "__main__":
    main()

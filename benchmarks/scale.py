"""How long a dump takes as the state grows, and as its tensors become more.

Each size in each number of tensors, in one run of rounds that take turns; beside each a plain copy, a plain write and
torch.save of the same. (What many checkpoints cost is ``store``.)
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from benchmarks import figures, job, machine, picture
from benchmarks.dump import FEW, NAMES, SMALL, dump
from benchmarks.options import output, parse_size
from benchmarks.rounds import in_turn, rivals, turns

BESIDE = ("copy", "copy_one_thread", "write", "write_direct", "torch_save")


def key(size: int, tensors: int) -> str:
    """Names a case in the results."""
    return f"{size}/{tensors}"


def one(folder: Path, size: int, tensors: int, turn: int) -> dict[str, float]:
    """One case: ours and the others."""
    found = dump(folder, size, tensors) | rivals(folder, size, tensors, turn, only=BESIDE)
    return {f"{key(size, tensors)}/{name}": value for name, value in found.items()}


def measure(
    sizes: list[int], counts: list[int], repeat: int, parent: Path | None, *, quiet: bool
) -> dict[str, Any]:
    """All rounds; for each case its seconds by name, and the figures."""
    cases = [(size, count) for size in sizes for count in counts]
    with job.scratch(parent) as folder:
        dump(folder, SMALL, FEW, at_once=True)
        rounds = [
            in_turn([partial(one, folder, *case, turn) for case in cases], turn)
            for turn in turns(repeat, quiet=quiet)
        ]
        about = machine.describe(folder)
    columns = figures.columns(rounds)
    seconds: dict[str, dict[str, list[float]]] = {}
    for name, values in columns.items():
        case, _, what = name.rpartition("/")
        seconds.setdefault(case, {})[what] = values
    return {
        "machine": about, "rounds": repeat, "sizes": sizes, "tensors": counts, "seconds": seconds,
        "figures": {case: _compare(values) for case, values in seconds.items()},
    }  # fmt: skip


def _compare(values: dict[str, list[float]]) -> dict[str, Any]:
    """Quartiles: what ours took, and the ratios."""
    copy = figures.quicker(values, "copy", "copy_one_thread")
    write = figures.quicker(values, *(name for name in ("write", "write_direct") if name in values))
    pairs = {"safe": ("safe", copy), "durable": ("durable", write), "saved": ("durable", "torch_save")}
    found = {
        f"{name}_ratio": figures.spread(
            [a / b for a, b in zip(values[own], values[other], strict=True)]
        )
        for name, (own, other) in pairs.items()
    }  # fmt: skip
    return {"safe": figures.spread(values["safe"]), "durable": figures.spread(values["durable"]), **found}


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"Dump by size and number of tensors: medians of {result['rounds']} rounds")
    for heading in ("size", "tensors", "safe", "/ copy", "durable", "/ write", "/ torch.save", "rate"):
        table.add_column(heading, justify="right")
    for case, each in result["figures"].items():
        size, tensors = map(int, case.split("/"))
        durable = each["durable"][1]
        table.add_row(
            figures.show(size, "B"), str(tensors), figures.show(each["safe"][1], "s"),
            f"{each['safe_ratio'][1]:.2f}", figures.show(durable, "s"), f"{each['durable_ratio'][1]:.2f}",
            f"{each['saved_ratio'][1]:.2f}", f"{size / durable / 1e9:.2f} GB/s",
        )  # fmt: skip
    return table


def draw(result: dict[str, Any]) -> Path:
    """The picture of a result."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for tensors in result["tensors"]:
        for what in ("safe", "durable"):
            curves[f"ckptd: {what}, {tensors} tensors"] = [
                (size, result["figures"][key(size, tensors)][what][1]) for size in result["sizes"]
            ]
    first = result["tensors"][0]
    for name in ("torch_save", "write", "write_direct", "copy_one_thread"):
        if name not in result["seconds"][key(result["sizes"][0], first)]:
            continue
        curves[NAMES[name]] = [
            (size, figures.spread(result["seconds"][key(size, first)][name])[1]) for size in result["sizes"]
        ]
    title = f"Signal to safe and to durable, {result['rounds']} rounds"
    return picture.lines("scale", title, curves, ("bytes of the state", "seconds"), result)


def _parse_sizes(_: click.Context, __: click.Parameter, text: str) -> list[int]:
    return sorted(parse_size(word) for word in text.split(","))


def _parse_counts(_: click.Context, __: click.Parameter, text: str) -> list[int]:
    return sorted(int(word) for word in text.split(","))


@click.command()
@output(3)
@click.option("--size", default="64M,256M,1G", show_default=True, callback=_parse_sizes, help="States.")
@click.option(
    "--tensors", default="10,1000,10000", show_default=True, callback=_parse_counts, help="In so many."
)
def main(
    size: list[int], tensors: list[int], repeat: int, folder: Path | None, as_json: bool, keep: bool
) -> None:
    """How long a dump takes as the state grows, and as its tensors become more."""
    result = measure(size, tensors, repeat, folder, quiet=as_json)
    machine.deliver(
        "scale", result, lambda: figures.show_table(_table(result)), as_json=as_json, kept=keep, draw=draw
    )


if __name__ == "__main__":
    main()

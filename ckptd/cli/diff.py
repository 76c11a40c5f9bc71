"""``ckptd diff``: what differs between two checkpoints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ckptd.cli.output import (
    Column,
    job_option,
    json_option,
    print_json,
    print_table,
    printable,
    progress,
    store_option,
)
from ckptd.store.contents import WHOLE
from ckptd.store.difference import Difference, TensorChange, compare
from ckptd.store.layout import default_store, open_store
from ckptd.store.selection import choose

FIGURES = (Column("FIGURE"), Column("A", right=True), Column("B", right=True))
VARIABLES = (Column("VARIABLE", gives=True), Column("A", gives=True), Column("B", gives=True))
TENSORS = (
    Column("TENSOR", gives=True), Column("CHANGE"), Column("SHAPE"), Column("NORM OF DIFFERENCE", right=True),
    Column("OF A", right=True), Column("COSINE", right=True),
)  # fmt: skip


@click.command("diff")
@click.argument("a")
@click.argument("b")
@click.option("--all", "everything", is_flag=True, help="Tensors that are the same, too.")
@job_option
@store_option
@json_option
def diff(a: str, b: str, everything: bool, job: str | None, store: Path | None, as_json: bool) -> None:
    """Compare checkpoints A and B (beginnings of ids, or 'latest'): figures, variables, tensors.

    Of tensors that changed: the norm of their difference, that of A, and the cosine of the angle between them.
    """
    opened = open_store(store or default_store(), create=False)
    one, other = choose(opened, a, job).entry, choose(opened, b, job).entry
    with progress("reading", 2 * WHOLE, sized=False) as read, progress("comparing", other.nbytes) as advance:
        found = compare(one.path, other.path, advance, read)
    if as_json:
        print_json(as_map(found))
        return
    print_table(FIGURES, [[name, _value(old), _value(new)] for name, old, new in found.figures])
    if found.variables:
        click.echo()
        rows = [[each.name, _value(each.old), _value(each.new)] for each in found.variables]
        print_table(VARIABLES, rows)
    shown = [each for each in found.tensors if everything or each.change != "same"]
    if shown:
        click.echo()
        print_table(TENSORS, [_cells(each) for each in shown])
    same = sum(each.change == "same" for each in found.tensors)
    click.echo(printable(f"{same} of {len(found.tensors)} tensors are the same"))


def as_map(found: Difference) -> dict[str, Any]:
    """Everything, for --json."""
    return {
        "a": {"id": found.a.id, "step": found.a.step},
        "b": {"id": found.b.id, "step": found.b.step},
        "figures": {name: [old, new] for name, old, new in found.figures},
        "variables": [asdict(each) for each in found.variables],
        "tensors": [asdict(each) for each in found.tensors],
    }


def _cells(each: TensorChange) -> list[str]:
    shape = "x".join(map(str, each.shape)) or "scalar"
    numbers = [_value(each.measure.get(name)) for name in ("norm", "norm_before", "cosine")]
    return [each.name, each.change, shape, *numbers]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)

"""``ckptd show``: what is in a checkpoint."""

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
from ckptd.store.contents import WHOLE, Contents, TensorView, figures, read_contents
from ckptd.store.layout import default_store, open_store
from ckptd.store.manifest import Manifest
from ckptd.store.pins import read_mark
from ckptd.store.quantity import bytes_text, clock_text
from ckptd.store.reader import OpenCheckpoint
from ckptd.store.selection import choose

VARIABLES = (Column("SCOPE", gives=True), Column("VARIABLE", gives=True), Column("VALUE", gives=True))
TENSORS = (
    Column("TENSOR", gives=True), Column("SHAPE"), Column("DTYPE"), Column("DEVICE"), Column("BYTES", right=True),
    Column("ALSO", gives=True),
)  # fmt: skip


@click.command("show")
@click.argument("wanted", metavar="CHECKPOINT", default="latest")
@job_option
@store_option
@json_option
def show(wanted: str, job: str | None, store: Path | None, as_json: bool) -> None:
    """Show what is in CHECKPOINT (the beginning of an id, or 'latest'): figures, variables, tensors.

    Nothing that it names is imported or called.
    """
    opened = open_store(store or default_store(), create=False)
    path = choose(opened, wanted, job).entry.path
    with OpenCheckpoint(path) as checkpoint:
        manifest = checkpoint.manifest
        with progress("reading", WHOLE, sized=False) as advance:
            contents = read_contents(checkpoint, advance)
    if as_json:
        print_json(as_map(path, manifest, contents))
        return
    for name, value in _heading(path, manifest, contents):
        click.echo(printable(f"{name:<14}{value}"))
    click.echo()
    rows = [[each.scope, each.name, each.value] for each in contents.variables]
    print_table(VARIABLES, rows)
    if contents.tensors:
        click.echo()
        print_table(TENSORS, [_cells(view) for view in contents.tensors.values()])


def as_map(path: Path, manifest: Manifest, contents: Contents) -> dict[str, Any]:
    """Everything, for --json."""
    mark = read_mark(path)
    return {
        "path": str(path),
        "manifest": asdict(manifest),
        "pinned": mark.pinned,
        "tags": list(mark.tags),
        "loops": [{"where": where, "count": count} for where, count in contents.graph.loops()],
        "variables": [asdict(each) for each in contents.variables],
        "tensors": [asdict(view) for view in contents.tensors.values()],
        "nodes": len(contents.graph),
    }


def _heading(path: Path, manifest: Manifest, contents: Contents) -> list[tuple[str, str]]:
    facts, mark = manifest.facts, read_mark(path)
    rows = [
        ("checkpoint", f"{manifest.id} of job {manifest.name} ({manifest.job}), step {manifest.step}"),
        ("taken", f"{clock_text(manifest.created)} on {manifest.host}, {manifest.reason}, attempt {manifest.attempt}"),
        ("size", f"{bytes_text(manifest.nbytes)}, of which it wrote {bytes_text(manifest.new_nbytes)}"),
        *((name, _figure(value)) for name, value in figures(facts)),
        ("versions", ", ".join(f"{name} {facts.get(name, '?')}" for name in ("python", "torch", "ckptd"))),
        ("command", " ".join(str(word) for word in facts.get("argv") or [])),
        ("stood at", ", ".join(f"{Path(where).name} iteration {count}" for where, count in contents.graph.loops())),
        ("folder", str(path)),
    ]  # fmt: skip
    if mark.pinned or mark.tags:
        rows.append(("kept", ", ".join((["pinned"] if mark.pinned else []) + list(mark.tags))))
    return [(name, value) for name, value in rows if value]


def _figure(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_figure, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _cells(view: TensorView) -> list[str]:
    shape = "x".join(map(str, view.shape)) or "scalar"
    also = view.others[0] if view.others else ""
    if view.more > 1:
        also += f" and {view.more - 1} more"
    return [view.path, shape, view.dtype, view.device, bytes_text(view.nbytes), also]

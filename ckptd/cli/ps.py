"""``ckptd ps``: the jobs in a store."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict
from pathlib import Path

import click

from ckptd import states
from ckptd.cli.output import Column, json_option, print_json, print_table, printable, store_option
from ckptd.daemon.table import JobRow, read_table
from ckptd.store.layout import default_store, open_store
from ckptd.store.quantity import ago_text

COLUMNS = (
    Column("ID"), Column("NAME", gives=True), Column("STATE"), Column("STEP", right=True),
    Column("PID", right=True), Column("ATTEMPT", right=True), Column("CHECKPOINT"), Column("SAVED"),
    Column("CHANGED"), Column("COMMAND", gives=True),
)  # fmt: skip


@click.command("ps")
@store_option
@json_option
def ps(store: Path | None, as_json: bool) -> None:
    """List jobs, the latest to change last. STATE 'lost': its ckptd is gone, though it hadn't ended."""
    opened = open_store(store or default_store(), create=False)
    rows = read_table(opened)
    if as_json:
        print_json([asdict(row) for row in rows])
    elif rows:
        now = time.time()
        print_table(COLUMNS, [cells(row, now) for row in rows])
        for row in rows:
            if row.note and row.state != states.FINISHED:
                click.echo(printable(f"{row.name or row.id}: {row.note}"))
    else:
        click.echo(f"no jobs in {printable(str(opened.path))}")


def cells(row: JobRow, now: float) -> list[str]:
    """One line of the table; ``now`` in Unix seconds."""
    return [
        row.id,
        row.name or "-",
        row.state or "damaged",
        _or_dash(row.step),
        _or_dash(row.pid),
        str(row.attempt),
        row.checkpoint or "-",
        ago_text(row.checkpoint_at, now) if row.checkpoint_at is not None else "-",
        ago_text(row.updated, now) if row.updated is not None else "-",
        shlex.join(row.argv) if row.argv else row.why,
    ]


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)

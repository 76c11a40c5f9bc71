"""``ckptd ps``: the jobs in a store."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from ckptd import states
from ckptd.daemon.table import JobRow, read_table
from ckptd.store.layout import default_store, open_store
from ckptd.store.quantity import ago_text

COLUMNS = ("ID", "NAME", "STATE", "STEP", "PID", "ATTEMPT", "CHECKPOINT", "SAVED", "CHANGED", "COMMAND")
_NUMBERS = frozenset({"STEP", "PID", "ATTEMPT"})


@click.command("ps")
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    envvar="CKPTD_STORE",
    metavar="DIR",
    help="Where the checkpoints are.  [default: $CKPTD_STORE, else ~/.local/state/ckptd]",
)
@click.option("--json", "as_json", is_flag=True, envvar="CKPTD_JSON", help="Everything, for programs.")
def ps(store: Path | None, as_json: bool) -> None:
    """List jobs, the latest to change last. STATE 'lost': its ckptd is gone, though it hadn't ended."""
    opened = open_store(store or default_store(), create=False)
    rows = read_table(opened)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
    elif rows:
        now = time.time()
        lines = [cells(row, now) for row in rows]
        for line in layout(lines):
            click.echo(line if not sys.stdout.isatty() else _cut(line))
        for row in rows:
            if row.note and row.state != states.FINISHED:
                click.echo(printable(f"{row.name or row.id}: {row.note}"))
    else:
        click.echo(f"no jobs in {printable(str(opened.path))}")


def cells(row: JobRow, now: float) -> list[str]:
    """One line of the table; ``now`` in Unix seconds."""
    texts = [
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
    return [printable(text) for text in texts]


def layout(lines: list[list[str]]) -> list[str]:
    """Rows under their headings, in columns as wide as they need; the last is not padded."""
    table = [list(COLUMNS), *lines]
    widths = [max(len(line[index]) for line in table) for index in range(len(COLUMNS) - 1)]
    return ["  ".join([*map(_pad, line, widths, COLUMNS), line[-1]]).rstrip() for line in table]


def printable(text: str) -> str:
    """Text from a store as a terminal may have it: no control characters, no lone surrogates."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _pad(text: str, width: int, column: str) -> str:
    return text.rjust(width) if column in _NUMBERS else text.ljust(width)


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _cut(line: str) -> str:
    width = shutil.get_terminal_size().columns
    return line if len(line) <= width else line[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"

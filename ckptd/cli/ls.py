"""``ckptd ls``: the checkpoints in a store."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import click

from ckptd.errors import CkptdError, UsageError
from ckptd.store.job import JobRecord
from ckptd.store.layout import JobFolder, Store, default_store, open_store
from ckptd.store.manifest import Manifest
from ckptd.store.quantity import ago_text, bytes_text
from ckptd.store.reader import Listed, list_checkpoints

COLUMNS = ("ID", "JOB", "STEP", "WHEN", "SIZE", "REASON", "LOSS", "STATE")
NUMBERS = ("STEP", "SIZE", "LOSS")
GAP = 2
"""Blanks between columns."""


@dataclass(frozen=True)
class Job:
    """A job as a listing sees it."""

    folder: JobFolder
    record: JobRecord | None
    error: str = ""
    """Why there is no record, one sentence."""

    @property
    def name(self) -> str:
        """Its name, else its id."""
        return self.record.name if self.record else self.folder.id


@dataclass(frozen=True)
class Row:
    """One checkpoint of one job."""

    job: Job
    listed: Listed


@click.command("ls")
@click.argument("job", required=False)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    envvar="CKPTD_STORE",
    metavar="DIR",
    help="Where the checkpoints are.  [default: $CKPTD_STORE, else ~/.local/state/ckptd]",
)
@click.option("--json", "as_json", is_flag=True, envvar="CKPTD_JSON", help="Everything, for programs.")
def ls(job: str | None, store: Path | None, as_json: bool) -> None:
    """List checkpoints, oldest first: all of them, or those of JOB (a name, or the beginning of an id)."""
    opened = open_store(store or default_store(), create=False)
    rows = [
        Row(found, listed)
        for found in select(read_jobs(opened), job, opened)
        for listed in list_checkpoints(found.folder)
    ]
    if as_json:
        click.echo(json.dumps([as_map(row) for row in rows], indent=1))
    elif rows:
        _print_table(rows, time.time())
    else:
        click.echo(f"no checkpoints{f' of {job}' if job else ''} in {printable(str(opened.path))}")


def read_jobs(store: Store) -> list[Job]:
    """All jobs of a store, oldest first, those whose record is damaged before the others."""
    jobs = []
    for folder in store.jobs():
        try:
            jobs.append(Job(folder, folder.load()))
        except CkptdError as error:
            jobs.append(Job(folder, None, str(error)))
    return sorted(jobs, key=lambda job: (job.record.created if job.record else 0.0, job.folder.id))


def select(jobs: list[Job], wanted: str | None, store: Store) -> list[Job]:
    """The jobs of that name, else the one whose id begins so; all for None. Raises UsageError."""
    if wanted is None:
        return jobs
    named = [job for job in jobs if job.record is not None and job.record.name == wanted]
    if named:
        return named
    matching = [job for job in jobs if wanted and job.folder.id.startswith(wanted)]
    if len(matching) > 1:
        ids = ", ".join(job.folder.id for job in matching)
        raise UsageError(f"{wanted!r} is the beginning of more than one job's id ({ids}): give more digits")
    if not matching:
        raise UsageError(f"no job {wanted!r} in {store.path}: ckptd ls without a name lists all")
    return matching


def as_map(row: Row) -> dict[str, Any]:
    """One checkpoint, for --json: all of its manifest, and of its job's record."""
    manifest = row.listed.manifest
    known = asdict(manifest) if manifest else {field.name: None for field in fields(Manifest)}
    return {
        **known,
        "error": row.listed.error or None,
        "id": row.listed.id,
        "step": row.listed.step,
        "path": str(row.listed.path),
        "state": state(row.listed),
        "nbytes": manifest.nbytes if manifest else None,
        "loss": loss(row.listed),
        "job": row.job.folder.id,
        "job_name": row.job.name,
        "job_record": asdict(row.job.record) if row.job.record else None,
        "job_error": row.job.error or None,
    }


def state(listed: Listed) -> str:
    """'complete' where the manifest is right; whether the data is too, only reading it can tell."""
    return "complete" if listed.manifest else "damaged"


def loss(listed: Listed) -> float | None:
    """The last loss that the agent could read; None for none, or one that isn't a number."""
    value = listed.manifest.facts.get("loss") if listed.manifest else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def printable(text: str) -> str:
    """Text from a store as a terminal may have it: no control characters, no lone surrogates."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def cells(row: Row, now: float) -> list[str]:
    """One line of the table. ``now`` in Unix seconds."""
    listed, manifest = row.listed, row.listed.manifest
    seen = loss(listed)
    raw = manifest.facts.get("loss") if manifest else None
    shown = f"{seen:.5g}" if seen is not None else raw if isinstance(raw, str) else "-"
    return [
        listed.id,
        printable(row.job.name),
        str(listed.step),
        ago_text(manifest.created, now) if manifest else "-",
        bytes_text(manifest.nbytes) if manifest else "-",
        printable(manifest.reason) if manifest else "-",
        printable(shown),
        state(listed),
    ]


def _print_table(rows: list[Row], now: float) -> None:
    # Here, so that every other command starts without rich (a tenth of a second).
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # rich takes 80 columns for a pipe; a pipe has no edge, so nothing is cut there.
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=1000)
    texts = [[Text(cell) for cell in cells(row, now)] for row in rows]
    widths = [max(cell_len(name), *(text[at].cell_len for text in texts)) for at, name in enumerate(COLUMNS)]
    job = COLUMNS.index("JOB")
    # A narrow terminal cuts names: all else is short, or there to be copied.
    rest = sum(widths) - widths[job] + GAP * (len(COLUMNS) - 1)
    widths[job] = min(widths[job], max(8, console.width - rest))
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name, width in zip(COLUMNS, widths, strict=True):
        justify: Literal["left", "right"] = "right" if name in NUMBERS else "left"
        table.add_column(name, justify=justify, width=width, no_wrap=True, overflow="ellipsis")
    for row, text in zip(rows, texts, strict=True):
        table.add_row(*text, style="red" if row.listed.manifest is None else "")
    console.print(table)
    errors = [error for row in rows for error in (row.job.error, row.listed.error) if error]
    for error in dict.fromkeys(errors):
        console.print(Text(printable(error)), style="red", soft_wrap=True)

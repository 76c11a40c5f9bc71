"""``ckptd ls``: the checkpoints in a store."""

from __future__ import annotations

import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click

from ckptd.cli.far import list_remote, remote_option
from ckptd.cli.output import Column, json_option, print_json, print_table, printable, store_option
from ckptd.store.environment import masked
from ckptd.store.index import Entry
from ckptd.store.job import JobRecord
from ckptd.store.layout import default_store, open_store
from ckptd.store.manifest import Manifest
from ckptd.store.pins import read_mark
from ckptd.store.quantity import ago_text, bytes_text
from ckptd.store.reader import list_one
from ckptd.store.selection import Chosen, checkpoints, read_jobs, select_jobs

COLUMNS = (
    Column("ID"), Column("JOB", gives=True), Column("STEP", right=True), Column("WHEN"),
    Column("SIZE", right=True), Column("NEW", right=True), Column("REASON"), Column("LOSS", right=True),
    Column("STATE"),
)  # fmt: skip


@click.command("ls")
@click.argument("job", required=False)
@remote_option
@store_option
@json_option
def ls(job: str | None, remote: str, store: Path | None, as_json: bool) -> None:
    """List checkpoints, oldest first: all of them, or those of JOB (a name, or the beginning of an id).

    SIZE is what a checkpoint holds, NEW what it has written: the rest it has in common with earlier ones.
    """
    if remote:
        list_remote(remote, job, as_json)
        return
    opened = open_store(store or default_store(), create=False)
    rows = checkpoints(select_jobs(read_jobs(opened), job, opened))
    if as_json:
        print_json([as_map(row) for row in rows])
    elif rows:
        now = time.time()
        print_table(COLUMNS, [cells(row, now) for row in rows], [not row.entry.good for row in rows])
        errors = [error for row in rows for error in (row.job.error, row.entry.error) if error]
        for error in dict.fromkeys(errors):
            click.echo(printable(error))
    else:
        click.echo(f"no checkpoints{f' of {job}' if job else ''} in {printable(str(opened.path))}")


def as_map(row: Chosen) -> dict[str, Any]:
    """One checkpoint, for --json: all of its manifest, and of its job's record."""
    entry = row.entry
    manifest = list_one(entry.path).manifest if entry.good else None
    known = asdict(manifest) if manifest else {field.name: None for field in fields(Manifest)}
    mark = read_mark(entry.path)
    return {
        **known,
        "error": entry.error or None,
        "id": entry.id,
        "step": entry.step,
        "path": str(entry.path),
        "state": state(entry),
        "nbytes": entry.nbytes if entry.good else None,
        "new_nbytes": entry.new_nbytes if entry.good else None,
        "loss": loss(entry),
        "pinned": mark.pinned,
        "tags": list(mark.tags),
        "job": row.job.folder.id,
        "job_name": row.job.name,
        "job_record": _record(row.job.record) if row.job.record else None,
        "job_error": row.job.error or None,
    }


def _record(record: JobRecord) -> dict[str, Any]:
    return {**asdict(record), "argv": masked(record.argv)}


def state(entry: Entry) -> str:
    """'complete' where the manifest is right; whether the data is too, only reading it can tell."""
    return "complete" if entry.good else "newer" if entry.newer else "damaged"


def loss(entry: Entry) -> float | None:
    """The last loss that the agent could read; None for none, or one that isn't a number."""
    value = entry.figures.get("loss")
    return float(value) if isinstance(value, int | float) else None


def cells(row: Chosen, now: float) -> list[str]:
    """One line of the table. ``now`` in Unix seconds."""
    entry = row.entry
    seen = loss(entry)
    shown = f"{seen:.5g}" if seen is not None else str(entry.figures.get("loss", "-"))
    if not entry.good:
        return [entry.id, row.job.name, str(entry.step), "-", "-", "-", "-", "-", state(entry)]
    return [
        entry.id, row.job.name, str(entry.step), ago_text(entry.created, now), bytes_text(entry.nbytes),
        bytes_text(entry.new_nbytes), entry.reason, shown, state(entry),
    ]  # fmt: skip

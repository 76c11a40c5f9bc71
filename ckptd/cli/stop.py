"""``ckptd stop``: save a job, and end it."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ckptd import control
from ckptd.cli.one import one_job, reach_job
from ckptd.cli.output import json_option, print_json, store_option, waiting
from ckptd.client import new_ask
from ckptd.daemon.table import JobRow, row_of
from ckptd.errors import NoDaemonError
from ckptd.host.order import change_order
from ckptd.settings import parse_duration
from ckptd.store.layout import JobFolder
from ckptd.store.lock import holder

LOOK = 0.05
"""Seconds between looks whether it has ended."""


@click.command("stop")
@click.argument("job", required=False)
@store_option
@click.option(
    "--grace", metavar="TIME", help="It must be gone by then.  [default: as the job was started with]"
)
@click.option(
    "--unsaved", is_flag=True, help="End it at once, without saving what was done since the last checkpoint."
)
@click.option("--no-wait", is_flag=True, help="Return at once.")
@json_option
def stop(
    job: str | None, store: Path | None, grace: str | None, unsaved: bool, no_wait: bool, as_json: bool
) -> int:
    """Save JOB and end it; the daemon doesn't start it again until ckptd resume."""
    _, found = one_job(store, job)
    seconds = parse_duration(grace) if grace is not None else None
    ordered = change_order(found.folder, wanted=False)
    try:
        reached = reach_job(found)
    except NoDaemonError:
        if holder(found.folder) is not None or not ordered:
            raise
        reached = None  # it had stopped by itself; now it stays so
    if reached is not None:
        with reached:
            reached.ask(control.Halt(new_ask(), seconds, unsaved))
    if no_wait:
        return 0
    with waiting(f"stopping {found.name}"):
        row = _wait(found.folder)
    if as_json:
        print_json({"state": row.state, "step": row.step, "checkpoint": row.checkpoint})
    elif row.state in ("finished", "failed"):
        click.echo(f"{found.name} has {row.state}")
    else:
        where = f"at checkpoint {row.checkpoint}, step {row.step}" if row.checkpoint else "with nothing saved"
        click.echo(f"stopped {where}; ckptd resume {found.folder.id} goes on")
    return 0


def _wait(folder: JobFolder) -> JobRow:
    while holder(folder) is not None:
        time.sleep(LOOK)
    return row_of(folder)

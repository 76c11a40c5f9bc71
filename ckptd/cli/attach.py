"""``ckptd attach``: be there while a job of the daemon runs."""

from __future__ import annotations

from pathlib import Path

import click

from ckptd.cli.logs import show
from ckptd.cli.one import one_job
from ckptd.cli.output import store_option
from ckptd.daemon.policy import shell_status
from ckptd.daemon.table import row_of
from ckptd.errors import STOPPED, NoDaemonError, UsageError
from ckptd.host.order import OUTPUT
from ckptd.store.lock import holder

LINES = 10
"""Of what was written before."""


@click.command("attach")
@click.argument("job", required=False)
@store_option
def attach(job: str | None, store: Path | None) -> int:
    """Show JOB's output until it ends, and exit with its status. Ctrl-C leaves the job alone."""
    _, found = one_job(store, job)
    if holder(found.folder) is None:
        raise NoDaemonError(f"job {found.name} doesn't run: ckptd logs {found.folder.id} shows what it wrote")
    path = found.folder.path / OUTPUT
    if not path.exists():
        raise UsageError(f"job {found.name} runs in the foreground: what it writes is where it was started")
    try:
        show(path, LINES, lambda: holder(found.folder) is not None)
    except KeyboardInterrupt:
        click.echo(
            f"\nckptd: left job {found.name}, which runs on: ckptd stop {found.folder.id} ends it", err=True
        )
        return 0
    row = row_of(found.folder)
    if row.state == "stopped":
        return STOPPED
    return shell_status(row.exit_status or 0)

"""``ckptd resume``: have the daemon go on with a job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ckptd import control, states
from ckptd.cli.detach import new_order
from ckptd.cli.one import one_job
from ckptd.cli.output import store_option
from ckptd.client import new_ask
from ckptd.daemon.table import row_of
from ckptd.errors import DamagedError, RefusedError
from ckptd.host.daemon import START_SECONDS
from ckptd.host.order import load_order, save_order
from ckptd.host.place import reach_daemon


@click.command("resume")
@click.argument("job", required=False)
@store_option
def resume(job: str | None, store: Path | None) -> int:
    """Go on with JOB under the daemon: as it was ordered, or, if it ran in the foreground, with this environment."""
    opened, found = one_job(store, job)
    if found.record is None:
        raise DamagedError(found.error)
    row = row_of(found.folder)
    if row.state == states.FINISHED:
        raise RefusedError(f"job {found.name} has finished: start it over with ckptd run --fresh")
    order = load_order(found.folder)
    if order is None:
        record = found.record
        named = ["--name", record.name] if record.named else []
        order = replace(new_order(record.id, record.argv, named), cwd=record.cwd)
    with reach_daemon(opened) as daemon:
        save_order(found.folder, replace(order, wanted=True))
        daemon.ask(control.Start(new_ask(), found.folder.id), START_SECONDS + 5)
    click.echo(f"{found.folder.id}  {found.name} runs: ckptd logs -f {found.folder.id}")
    return 0

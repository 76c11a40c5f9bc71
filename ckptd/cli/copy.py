"""``ckptd copy``: checkpoints into another store."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ckptd.cli.output import job_option, json_option, printable, progress, store_option
from ckptd.errors import UsageError
from ckptd.store.layout import default_store, open_store
from ckptd.store.quantity import bytes_text
from ckptd.store.selection import checkpoints, choose, read_jobs, select_jobs
from ckptd.store.transfer import copy_checkpoint


@click.command("copy")
@click.argument("wanted", nargs=-1, metavar="[CHECKPOINT]...")
@click.option("--to", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The other store.")
@click.option("--all", "everything", is_flag=True, help="All checkpoints, or those of --job.")
@job_option
@store_option
@json_option
def copy(
    wanted: tuple[str, ...], to: Path, everything: bool, job: str | None, store: Path | None, as_json: bool
) -> None:
    """Copy checkpoints (beginnings of ids, or 'latest') into the store DIR, which is made if need be.

    Each copy is read and verified before it is listed there. What the other store has already is not written again.
    """
    if bool(wanted) == everything:
        raise UsageError("say which checkpoints, or --all")
    opened = open_store(store or default_store(), create=False)
    if to.absolute() == opened.path:
        raise UsageError(f"{to} is the store that they are in: name another")
    target = open_store(to)
    chosen = (
        checkpoints(select_jobs(read_jobs(opened), job, opened))
        if everything
        else [choose(opened, each, job) for each in wanted]
    )
    with progress("copying", sum(each.entry.nbytes for each in chosen)) as advance:
        done = [copy_checkpoint(each.job.folder, each.entry.path, target, advance) for each in chosen]
    if as_json:
        rows = [
            {"id": each.entry.id, "path": str(copied.path), "nbytes": copied.nbytes}
            for each, copied in zip(chosen, done, strict=True)
        ]
        click.echo(json.dumps(rows, indent=1))
        return
    for each, copied in zip(chosen, done, strict=True):
        words = f"{bytes_text(copied.nbytes)} written" if copied.nbytes else "is there already"
        click.echo(printable(f"checkpoint {each.entry.id} at step {each.entry.step}: {words}"))

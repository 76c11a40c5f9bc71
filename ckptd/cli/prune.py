"""``ckptd prune``: free what nothing refers to."""

from __future__ import annotations

from pathlib import Path

import click

from ckptd.cli.far import prune_remote, remote_option
from ckptd.cli.output import json_option, print_json, store_option
from ckptd.store.layout import default_store, open_store
from ckptd.store.leftovers import leftovers, prune_job
from ckptd.store.quantity import bytes_text


@click.command("prune")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would go.")
@remote_option
@store_option
@json_option
def prune(dry_run: bool, remote: str, store: Path | None, as_json: bool) -> None:
    """Free what no checkpoint refers to: what killed writers left, and what --fresh has set aside for good.

    Tensors that checkpoints share need no pruning: they go with the last checkpoint that has them.
    """
    if remote:
        prune_remote(remote, dry_run, as_json)
        return
    opened = open_store(store or default_store(), create=False)
    found = [left for folder in opened.jobs() for left in leftovers(folder)]
    gone = found if dry_run else [left for folder in opened.jobs() for left in prune_job(folder)]
    freed = sum(left.nbytes for left in gone)
    if as_json:
        rows = [{"path": str(left.path), "nbytes": left.nbytes, "what": left.what} for left in gone]
        print_json({"removed": rows, "freed": freed, "dry_run": dry_run})
        return
    for left in gone:
        click.echo(f"{left.path}: {left.what}, {bytes_text(left.nbytes)}")
    words = "would be freed" if dry_run else "freed"
    click.echo(f"{bytes_text(freed)} {words}" if gone else "nothing to free")

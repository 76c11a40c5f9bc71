"""``ckptd copy``: checkpoints into another store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ckptd.cli.far import copy_from_remote, copy_to_remote, is_remote, remote_option
from ckptd.cli.output import job_option, json_option, print_json, printable, progress, store_option
from ckptd.errors import UsageError
from ckptd.store.layout import Store, default_store, open_store
from ckptd.store.quantity import bytes_text
from ckptd.store.selection import Chosen, checkpoints, choose, read_jobs, select_jobs
from ckptd.store.transfer import copy_checkpoint


@click.command("copy")
@click.argument("wanted", nargs=-1, metavar="[CHECKPOINT]...")
@click.option("--to", required=True, metavar="DIR|URL", help="The other store, or a remote.")
@click.option("--all", "everything", is_flag=True, help="All checkpoints, or those of --job.")
@job_option
@remote_option
@store_option
@json_option
def copy(
    wanted: tuple[str, ...], to: str, everything: bool, job: str | None, remote: str, store: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Copy checkpoints (beginnings of ids, or 'latest') into the store DIR, which is made if need be.

    Each copy is read and verified before it is listed there. What the other store has already is not written again.
    A remote can be the source (--remote URL) or the target (--to URL).
    """
    if bool(wanted) == everything:
        raise UsageError("say which checkpoints, or --all")
    if remote:
        if is_remote(to):
            raise UsageError(
                "one of the two must be a store: copy into a folder first, then to the other remote"
            )
        rows = copy_from_remote(remote, wanted, job, Path(to), everything)
    else:
        opened = open_store(store or default_store(), create=False)
        chosen = (
            checkpoints(select_jobs(read_jobs(opened), job, opened))
            if everything
            else [choose(opened, each, job) for each in wanted]
        )
        rows = copy_to_remote(to, chosen) if is_remote(to) else _copy(opened, chosen, Path(to))
    if as_json:
        print_json([{key: row[key] for key in ("id", "path", "nbytes")} for row in rows])
        return
    for row in rows:
        words = f"{bytes_text(row['nbytes'])} written" if row["nbytes"] else "is there already"
        click.echo(printable(f"checkpoint {row['id']} at step {row['step']}: {words}"))


def _copy(opened: Store, chosen: list[Chosen], to: Path) -> list[dict[str, Any]]:
    if to.absolute() == opened.path:
        raise UsageError(f"{to} is the store that they are in: name another")
    target = open_store(to)
    with progress("copying", sum(each.entry.nbytes for each in chosen)) as advance:
        done = [copy_checkpoint(each.job.folder, each.entry.path, target, advance) for each in chosen]
    return [
        {"id": each.entry.id, "step": each.entry.step, "path": str(copied.path), "nbytes": copied.nbytes}
        for each, copied in zip(chosen, done, strict=True)
    ]

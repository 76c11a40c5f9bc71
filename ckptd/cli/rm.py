"""``ckptd rm``: remove checkpoints by name."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from ckptd.cli.output import job_option, json_option, print_json, progress, store_option
from ckptd.errors import PartlyDoneError, UsageError
from ckptd.store import index, removal
from ckptd.store.hold import keep
from ckptd.store.layout import default_store, open_store
from ckptd.store.pins import read_mark
from ckptd.store.quantity import bytes_text
from ckptd.store.retention import Policy
from ckptd.store.selection import Chosen, choose
from ckptd.store.verify import verify_checkpoint


@click.command("rm")
@click.argument("wanted", nargs=-1, required=True, metavar="CHECKPOINT...")
@click.option("-f", "--force", is_flag=True, help="Pinned ones too, and the newest that is whole.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would go.")
@job_option
@store_option
@json_option
def rm(
    wanted: tuple[str, ...], force: bool, dry_run: bool, job: str | None, store: Path | None, as_json: bool
) -> None:
    """Remove checkpoints (the beginnings of their ids, or 'latest'). What others share with them stays theirs."""
    opened = open_store(store or default_store(), create=False)
    chosen = list({each.entry.path: each for each in (choose(opened, name, job) for name in wanted)}.values())
    freed: dict[str, int] = {}
    held: list[str] = []
    with ExitStack() as stack:
        for each in chosen if not force else []:
            stack.enter_context(keep(_may_go(each, chosen)))
        for each in chosen if not dry_run else []:
            done = removal.remove(each.job.folder, [each.entry.path], None if force else Policy())
            freed.update({path.name[13:]: done.freed.get(path, 0) for path in done.gone})
            held += [path.name[13:] for path in [*done.held, *done.marked]]
    if as_json:
        ids = [each.entry.id for each in chosen] if dry_run else sorted(freed)
        print_json({"removed": ids, "held": held, "freed": sum(freed.values()), "dry_run": dry_run})
    else:
        for each in chosen:
            if dry_run or each.entry.id in freed:
                words = (
                    "would be removed" if dry_run else f"removed, {bytes_text(freed[each.entry.id])} freed"
                )
                click.echo(f"checkpoint {each.entry.id} at step {each.entry.step}: {words}")
    if held:
        raise PartlyDoneError(
            f"{', '.join(held)} stays: it is being read, or was pinned just now; try again when that is over"
        )


def _may_go(each: Chosen, chosen: list[Chosen]) -> Path:
    """The whole one that is left then; raises UsageError if a careful person would want to be asked."""
    if read_mark(each.entry.path).pinned:
        raise UsageError(
            f"checkpoint {each.entry.id} is pinned: ckptd pin --remove {each.entry.id}, or rm --force"
        )
    others = [entry for entry in index.entries(each.job.folder) if entry.path != each.entry.path]
    going = {one.entry.path for one in chosen}
    newer = [entry for entry in others if entry.path not in going and entry.good]
    with progress("reading the newest", sum(entry.nbytes for entry in newer[-1:])) as advance:
        whole = removal.newest_whole(newer, lambda path: verify_checkpoint(path, progress=advance))
    if whole is None:
        raise UsageError(
            f"checkpoint {each.entry.id} is the last of job {each.job.name} that may be whole: rm --force removes it"
        )
    return whole.path

"""``ckptd pin``: checkpoints that no policy removes."""

from __future__ import annotations

from pathlib import Path

import click

from ckptd.cli.output import job_option, json_option, print_json, store_option
from ckptd.store.layout import default_store, open_store
from ckptd.store.pins import read_mark, write_mark
from ckptd.store.retention import Mark
from ckptd.store.selection import choose


@click.command("pin")
@click.argument("wanted", metavar="CHECKPOINT")
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG", help="Only tag it: it stays under --keep-tag TAG."
)
@click.option("--remove", is_flag=True, help="Take the pin, or the tags that are named, off again.")
@job_option
@store_option
@json_option
def pin(
    wanted: str, tags: tuple[str, ...], remove: bool, job: str | None, store: Path | None, as_json: bool
) -> None:
    """Keep CHECKPOINT (the beginning of an id, or 'latest') whatever the policy says, until the pin is removed."""
    opened = open_store(store or default_store(), create=False)
    chosen = choose(opened, wanted, job)
    before = read_mark(chosen.entry.path)
    mark = changed(before, tags, remove)
    write_mark(chosen.entry.path, mark)
    if as_json:
        print_json({"id": chosen.entry.id, "pinned": mark.pinned, "tags": list(mark.tags)})
        return
    words = (["pinned"] if mark.pinned else []) + [f"tagged {', '.join(mark.tags)}" for _ in [0] if mark.tags]
    click.echo(
        f"checkpoint {chosen.entry.id} at step {chosen.entry.step}: {' and '.join(words) or 'not pinned'}"
    )


def changed(mark: Mark, tags: tuple[str, ...], remove: bool) -> Mark:
    """A mark as the flags want it."""
    if remove:
        left = tuple(tag for tag in mark.tags if tag not in tags)
        return Mark(mark.pinned and bool(tags), left)
    return Mark(mark.pinned or not tags, tuple(sorted({*mark.tags, *tags})))

"""What ``ls``, ``copy`` and ``prune`` do where ``--remote`` is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from ckptd.cli.output import Column, print_json, print_table, printable, progress
from ckptd.errors import RemoteError, UsageError
from ckptd.store.quantity import ago_text, bytes_text
from ckptd.store.selection import Chosen

COLUMNS = (
    Column("ID"), Column("JOB", gives=True), Column("STEP", right=True), Column("WHEN"),
    Column("SIZE", right=True), Column("REASON"), Column("STATE"),
)  # fmt: skip
Command = TypeVar("Command", bound=Callable[..., Any])


def remote_option(command: Command) -> Command:
    """``--remote URL``."""
    return click.option(
        "--remote",
        default="",
        metavar="URL",
        callback=_given,
        help="A remote (s3://..., file:///...) instead of the store.",
    )(command)


def _given(context: click.Context, option: click.Parameter, url: str) -> str:
    """An empty variable in a script must not make the store of what was to be the remote."""
    from click.core import ParameterSource

    if not url and context.get_parameter_source(str(option.name)) is not ParameterSource.DEFAULT:
        raise UsageError(
            "--remote is empty: write s3://bucket/folder or file:///mnt/nfs/folder, or leave it out"
        )
    return url


def is_remote(place: str) -> bool:
    """Whether a word that may be a folder's name is a URL."""
    return "://" in place


def list_remote(url: str, job: str | None, as_json: bool) -> None:
    """``ckptd ls --remote URL``."""
    from ckptd.remote.listing import checkpoints, find_jobs, open_remote

    rows = checkpoints(find_jobs(open_remote(url), job))
    if as_json:
        print_json([_as_map(row) for row in rows])
    elif rows:
        now = time.time()
        print_table(COLUMNS, [_cells(row, now) for row in rows], [row.entry is None for row in rows])
        for error in dict.fromkeys(error for row in rows for error in (row.job.error, row.error) if error):
            click.echo(printable(error))
    else:
        click.echo(f"no checkpoints{f' of {job}' if job else ''} at {printable(url)}")


def _state(row: Any) -> str:
    if row.entry is None:
        return "newer" if row.newer else "damaged"
    return "latest" if row.latest else "complete"


def _as_map(row: Any) -> dict[str, Any]:
    entry = row.entry
    return {
        "id": row.id, "step": row.step, "name": row.name, "state": _state(row), "error": row.error or None,
        "job": row.job.job.id, "job_name": row.job.name, "job_error": row.job.error or None,
        "nbytes": entry.manifest.nbytes if entry else None,
        "created": entry.manifest.created if entry else None,
        "manifest": asdict(entry.manifest) if entry else None,
        "pinned": entry.mark.pinned if entry else None, "tags": list(entry.mark.tags) if entry else None,
    }  # fmt: skip


def _cells(row: Any, now: float) -> list[str]:
    if row.entry is None:
        return [row.id, row.job.name, str(row.step), "-", "-", "-", _state(row)]
    manifest = row.entry.manifest
    return [
        row.id, row.job.name, str(row.step), ago_text(manifest.created, now), bytes_text(manifest.nbytes),
        manifest.reason, _state(row),
    ]  # fmt: skip


def copy_from_remote(
    url: str, wanted: tuple[str, ...], job: str | None, to: Path, everything: bool
) -> list[dict[str, Any]]:
    """``ckptd copy --remote URL --to DIR``; a row for each."""
    from ckptd.remote.listing import checkpoints, choose, copy_down, find_jobs, open_remote
    from ckptd.store.layout import open_store

    rows = checkpoints(find_jobs(open_remote(url), job))
    chosen = rows if everything else [choose(rows, each, url) for each in wanted]
    target = open_store(to)
    size = sum(row.entry.manifest.nbytes for row in chosen if row.entry)
    with progress("copying", size) as advance:
        done = [copy_down(row, target, advance) for row in chosen]
    return [
        {"id": row.id, "step": row.step, "path": str(fetched.path), "nbytes": fetched.nbytes}
        for row, fetched in zip(chosen, done, strict=True)
    ]


def copy_to_remote(url: str, chosen: list[Chosen]) -> list[dict[str, Any]]:
    """``ckptd copy --to URL``; a row for each."""
    from ckptd.remote.backend import open_backend
    from ckptd.remote.listing import copy_up

    backend = open_backend(url)
    with progress("copying", sum(each.entry.nbytes for each in chosen)) as advance:
        done = [copy_up(each, backend, advance) for each in chosen]
    return [
        {"id": each.entry.id, "step": each.entry.step, "path": f"{url}: {each.entry.path.name}", "nbytes": up.nbytes}
        for each, up in zip(chosen, done, strict=True)
    ]  # fmt: skip


def prune_remote(url: str, dry_run: bool, as_json: bool) -> None:
    """``ckptd prune --remote URL``: each job is held while its pieces are looked through."""
    from ckptd.remote.lease import Holder
    from ckptd.remote.listing import find_jobs, open_remote
    from ckptd.remote.retention import prune, unreferenced

    gone: dict[str, int] = {}
    for known in find_jobs(open_remote(url), None):
        holder = Holder(known.job)
        holder.acquire()
        try:
            found = unreferenced(known.job) if dry_run else prune(known.job).objects
        finally:
            with suppress(RemoteError):  # it expires
                holder.release()
        gone.update({known.job.path(name): size for name, size in found.items()})
    freed = sum(gone.values())
    if as_json:
        rows = [
            {"path": name, "nbytes": size, "what": "a piece of no checkpoint"} for name, size in gone.items()
        ]
        print_json({"removed": rows, "freed": freed, "dry_run": dry_run})
        return
    words = "would be freed" if dry_run else "freed"
    pieces = f"{len(gone)} piece{'s' if len(gone) > 1 else ''} of no checkpoint"
    click.echo(f"{pieces}: {bytes_text(freed)} {words}" if gone else "nothing to free")

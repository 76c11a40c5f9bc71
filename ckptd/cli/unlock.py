"""``ckptd unlock``: who holds what, and an end to what is stale."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ckptd.cli.far import remote_option
from ckptd.cli.output import json_option, print_json, printable, store_option
from ckptd.errors import NoStoreError, UsageError
from ckptd.store.layout import default_store, open_store
from ckptd.store.lock import Owner, holder
from ckptd.store.quantity import clock_text
from ckptd.store.selection import read_jobs, select_jobs

if TYPE_CHECKING:
    from ckptd.remote.job import RemoteJob
    from ckptd.remote.lease import Lease


@dataclass
class Held:
    """What there is to say of one job."""

    id: str
    name: str
    url: str = ""
    """Of its remote."""
    owner: Owner | None = None
    """Of the lock in the store."""
    lease: Lease | None = None
    stale: bool = False
    removed: bool = False
    error: str = ""
    """Why nothing can be said of the remote."""


@click.command("unlock")
@click.argument("job", required=False)
@remote_option
@store_option
@click.option("--force", is_flag=True, help="Remove JOB's lease though it has not expired.")
@json_option
def unlock(job: str | None, remote: str, store: Path | None, force: bool, as_json: bool) -> None:
    """Say who holds which jobs, here and at their remotes; remove leases that nobody holds any more.

    A lock in a store goes with the process that has it, so there is never one to remove. A lease at a remote
    is removed when it has expired, when its process is provably gone, or with --force.
    """
    if force and job is None:
        raise UsageError("--force needs the JOB whose lease is to be removed")
    found = _at_remote(remote, job) if remote else _in_store(store or default_store(), job)
    for held in found:
        _look(held, force)
    if as_json:
        print_json([_as_map(held) for held in found])
        return
    for held in found:
        for line in _lines(held):
            click.echo(printable(line))
    if not found:
        click.echo("there are no jobs")


def _at_remote(url: str, job: str | None) -> list[Held]:
    from ckptd.remote.listing import find_jobs, open_remote

    return [Held(known.job.id, known.name, url) for known in find_jobs(open_remote(url), job)]


def _in_store(path: Path, job: str | None) -> list[Held]:
    opened = open_store(path, create=False)
    found = []
    for each in select_jobs(read_jobs(opened), job, opened):
        known = each.record.extra.get("remote") if each.record is not None else None
        url = known.get("url") if isinstance(known, dict) else ""
        found.append(Held(each.folder.id, each.name, str(url or ""), holder(each.folder)))
    return found


def _look(held: Held, force: bool) -> None:
    """Read the lease, and remove it if it may be."""
    if not held.url:
        return
    from ckptd.remote.backend import open_backend
    from ckptd.remote.job import RemoteJob
    from ckptd.remote.lease import read_lease

    try:
        job = RemoteJob(open_backend(held.url), held.id)
        held.lease = read_lease(job)
        if held.lease is not None:
            held.stale = held.lease.over(time.time())
            _remove(held, job, force)
    except NoStoreError as error:
        held.error = str(error)


def _remove(held: Held, job: RemoteJob, force: bool) -> None:
    from ckptd.remote.lease import remove_lease

    assert held.lease is not None
    if held.stale or force:
        remove_lease(job, held.lease)
        held.removed = True


def _lines(held: Held) -> list[str]:
    lines = []
    if held.owner is not None:
        lines.append(
            f"{held.name} ({held.id}): process {held.owner.pid} on {held.owner.host} runs it since "
            f"{clock_text(held.owner.since)}; kill {held.owner.pid} stops it"
        )
    if held.error:
        lines.append(f"{held.name} ({held.id}): {held.error}")
    elif held.lease is not None:
        lease, where = held.lease, f"{held.name} ({held.id}) at {held.url}"
        if held.removed and not held.stale:
            lines.append(f"{where}: the lease of {lease.words()} was removed, as asked")
        elif held.removed:
            lines.append(f"{where}: the lease of {lease.words()} was stale and is removed")
        else:
            lines.append(
                f"{where}: leased by {lease.words()}, unless renewed; if that machine is gone for good, "
                f"wait until then or say 'ckptd unlock {held.id} --force'"
            )
    return lines or [f"{held.name} ({held.id}): nobody holds it"]


def _as_map(held: Held) -> dict[str, Any]:
    lease, owner = held.lease, held.owner
    return {
        "job": held.id, "job_name": held.name, "remote": held.url or None, "error": held.error or None,
        "lock": {"host": owner.host, "pid": owner.pid, "since": owner.since} if owner else None,
        "lease": {
            "host": lease.host, "pid": lease.pid, "since": lease.since, "expires": lease.expires,
            "stale": held.stale, "removed": held.removed, "here": lease.host == os.uname().nodename,
        } if lease else None,
    }  # fmt: skip

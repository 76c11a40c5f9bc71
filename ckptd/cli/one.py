"""The one job that a verb is about, and the way to its ckptd."""

from __future__ import annotations

import os
from pathlib import Path

from ckptd.client import Client
from ckptd.errors import NoDaemonError, UsageError
from ckptd.store.layout import Store, default_store, open_store
from ckptd.store.lock import holder
from ckptd.store.selection import Job, read_jobs, select_jobs


def one_job(store: Path | None, wanted: str | None) -> tuple[Store, Job]:
    """The job that is meant: a name, or the beginning of an id; none is needed if the store has but one.

    Raises UsageError, NoStoreError.
    """
    opened = open_store(store or default_store(), create=False)
    found = select_jobs(read_jobs(opened), wanted, opened)
    if not found:
        raise UsageError(f"no jobs in {opened.path}")
    if len(found) > 1:
        names = ", ".join(each.name or each.folder.id for each in found[:5])
        raise UsageError(
            f"which job? There are {len(found)} here: {names}{' and more' if len(found) > 5 else ''}"
        )
    return opened, found[0]


def reach_job(job: Job) -> Client:
    """A connection to the ckptd of a job. Raises NoDaemonError: it doesn't run, or not here."""
    owner = holder(job.folder)
    if owner is None:
        raise NoDaemonError(f"job {job.name} ({job.folder.id}) doesn't run: ckptd status {job.folder.id}")
    listens = job.record.extra.get("listens") if job.record is not None else None
    if owner.host != os.uname().nodename or not isinstance(listens, dict) or listens.get("pid") != owner.pid:
        raise NoDaemonError(
            f"job {job.name} is held by process {owner.pid} on {owner.host}, which takes no requests from here"
        )
    return Client(str(listens.get("at")), f"job {job.name} (its ckptd is process {owner.pid})", owner.pid)

"""Which job and which checkpoint a person means by a few letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ckptd.errors import CkptdError, UsageError
from ckptd.store import index
from ckptd.store.index import Entry
from ckptd.store.job import JobRecord
from ckptd.store.layout import JobFolder, Store

LATEST = "latest"


@dataclass(frozen=True)
class Job:
    """A job as a listing sees it."""

    folder: JobFolder
    record: JobRecord | None
    error: str = ""
    """Why there is no record, one sentence."""

    @property
    def name(self) -> str:
        """Its name, else its id."""
        return self.record.name if self.record else self.folder.id


@dataclass(frozen=True)
class Chosen:
    """One checkpoint of one job."""

    job: Job
    entry: Entry


def read_jobs(store: Store) -> list[Job]:
    """All jobs of a store, oldest first, those whose record is damaged before the others."""
    jobs = []
    for folder in store.jobs():
        try:
            jobs.append(Job(folder, folder.load()))
        except CkptdError as error:
            jobs.append(Job(folder, None, str(error)))
    return sorted(jobs, key=lambda job: (job.record.created if job.record else 0.0, job.folder.id))


def select_jobs(jobs: Sequence[Job], wanted: str | None, store: Store) -> list[Job]:
    """The jobs of that name, else the one whose id begins so; all for None. Raises UsageError."""
    if wanted is None:
        return list(jobs)
    named = [job for job in jobs if job.record is not None and job.record.name == wanted]
    if named:
        return named
    matching = [job for job in jobs if wanted and job.folder.id.startswith(wanted)]
    if len(matching) > 1:
        ids = ", ".join(job.folder.id for job in matching)
        raise UsageError(f"{wanted!r} is the beginning of more than one job's id ({ids}): give more digits")
    if not matching:
        raise UsageError(f"no job {wanted!r} in {store.path}: ckptd ls without a name lists all")
    return matching


def checkpoints(jobs: Sequence[Job]) -> list[Chosen]:
    """All checkpoints of some jobs, job by job, oldest first. Raises DamagedError."""
    return [Chosen(job, entry) for job in jobs for entry in index.entries(job.folder)]


def choose(store: Store, wanted: str, job: str | None = None) -> Chosen:
    """The checkpoint whose id begins so, or ``latest``: the last that was taken. Raises UsageError.

    ``job`` (a name, or the beginning of an id) narrows the search.
    """
    found = checkpoints(select_jobs(read_jobs(store), job, store))
    if not found:
        raise UsageError(f"there are no checkpoints in {store.path}: ckptd ps shows its jobs")
    if wanted == LATEST:
        return _latest(found)
    matching = [each for each in found if wanted and each.entry.id.startswith(wanted)]
    if len(matching) > 1:
        ids = ", ".join(each.entry.id for each in matching[:5])
        raise UsageError(
            f"{wanted!r} is the beginning of more than one checkpoint's id ({ids}): give more digits"
        )
    if not matching:
        raise UsageError(f"no checkpoint {wanted!r} in {store.path}: ckptd ls shows them, or say {LATEST}")
    return matching[0]


def _latest(found: Sequence[Chosen]) -> Chosen:
    """Of each job the last one, and of these the one that was taken last."""
    newest: dict[str, Chosen] = {}
    for each in found:
        if each.entry.good:
            newest[each.job.folder.id] = each
    if not newest:
        return found[-1]
    return max(newest.values(), key=lambda each: each.entry.created)

"""What verbs need of a remote: its jobs, its checkpoints, and copies to and from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ckptd.errors import CkptdError, DamagedError, RefusedError, UsageError
from ckptd.remote.backend import Backend, open_backend
from ckptd.remote.download import Fetched, fetch, fetch_record
from ckptd.remote.job import Entry, RemoteJob, job_ids, open_root
from ckptd.remote.journal import Journal
from ckptd.remote.lease import Holder
from ckptd.remote.patience import USUAL, Stop, insist
from ckptd.remote.upload import Uploaded, upload
from ckptd.store.job import JobRecord
from ckptd.store.layout import Store
from ckptd.store.selection import LATEST, Chosen

Advance = Callable[[int], None]


@dataclass(frozen=True)
class KnownJob:
    """A job at a remote."""

    job: RemoteJob
    record: JobRecord | None
    error: str = ""
    """Why there is no record, one sentence."""

    @property
    def name(self) -> str:
        """Its name, else its id."""
        return self.record.name if self.record else self.job.id


@dataclass(frozen=True)
class Shown:
    """One checkpoint at a remote."""

    job: KnownJob
    name: str
    entry: Entry | None
    error: str = ""
    """Why it can't be read, one sentence."""
    newer: bool = False
    """It is of a newer format."""
    latest: bool = False
    """A fresh host resumes it."""

    @property
    def step(self) -> int:
        """By its name."""
        return int(self.name[:12])

    @property
    def id(self) -> str:
        """By its name."""
        return self.name[13:]


def open_remote(url: str) -> Backend:
    """A remote that is there. Raises RemoteError, UsageError."""
    backend = open_backend(url)
    insist(lambda: open_root(backend, create=False), USUAL, Stop())
    return backend


def find_jobs(backend: Backend, wanted: str | None) -> list[KnownJob]:
    """The jobs of that name, else the one whose id begins so; all for None. Raises UsageError, RemoteError."""
    found = [_known(RemoteJob(backend, job)) for job in insist(lambda: job_ids(backend), USUAL, Stop())]
    if wanted is None:
        return found
    named = [each for each in found if each.record is not None and each.record.name == wanted]
    matching = named or [each for each in found if wanted and each.job.id.startswith(wanted)]
    if not matching:
        raise UsageError(f"no job {wanted!r} at {backend.url}: ckptd ls --remote without a name lists all")
    if len(matching) > 1 and not named:
        ids = ", ".join(each.job.id for each in matching)
        raise UsageError(f"{wanted!r} is the beginning of more than one job's id ({ids}): give more digits")
    return matching


def _known(job: RemoteJob) -> KnownJob:
    try:
        return KnownJob(job, insist(job.load_record, USUAL, Stop()))
    except (DamagedError, RefusedError) as error:
        return KnownJob(job, None, str(error))


def checkpoints(jobs: Sequence[KnownJob]) -> list[Shown]:
    """All checkpoints of some jobs, job by job, oldest first; those that can't be read first. Raises RemoteError."""
    rows: list[Shown] = []
    for known in jobs:
        latest = insist(known.job.latest, USUAL, Stop())
        entries, errors = insist(known.job.entries, USUAL, Stop())
        rows += [
            Shown(known, name, None, str(error), isinstance(error, RefusedError))
            for name, error in errors.items()
        ]
        rows += [Shown(known, entry.name, entry, latest=entry.name == latest) for entry in entries]
    return rows


def choose(rows: Sequence[Shown], wanted: str, url: str) -> Shown:
    """The checkpoint whose id begins so, or ``latest``: of each job its own, of these the last that was taken.

    Raises UsageError.
    """
    if wanted == LATEST:
        taken = [(row.entry.manifest.created, row) for row in rows if row.latest and row.entry is not None]
        if not taken:
            raise UsageError(f"there are no checkpoints at {url}")
        return max(taken, key=lambda pair: pair[0])[1]
    matching = [row for row in rows if wanted and row.id.startswith(wanted)]
    if len(matching) != 1:
        what = "is the beginning of more than one checkpoint's id" if matching else "is no checkpoint"
        raise UsageError(f"{wanted!r} {what} at {url}: ckptd ls --remote {url} shows them")
    return matching[0]


def copy_down(row: Shown, target: Store, advance: Advance) -> Fetched:
    """Bring a checkpoint into a store; it is verified before it is listed there. Raises CkptdError."""
    if row.entry is None:
        raise DamagedError(row.error)
    folder = target.job(row.job.job.id)
    fetch_record(row.job.job, folder)
    return fetch(row.job.job, row.entry, folder, advance=advance)


def copy_up(chosen: Chosen, backend: Backend, advance: Advance) -> Uploaded:
    """Upload a checkpoint of a store; ``latest`` moves only to a later one. Raises CkptdError."""
    insist(lambda: open_root(backend, create=True), USUAL, Stop())
    job = RemoteJob(backend, chosen.job.folder.id)
    holder = Holder(job)
    insist(holder.acquire, USUAL, Stop())
    try:
        record = chosen.job.record
        begun = record.created if record is not None else 0.0
        if record is not None and insist(job.load_record, USUAL, Stop()) is None:
            insist(lambda: job.save_record(replace(record, state="unfinished")), USUAL, Stop())
        before = _latest_entry(job)
        journal = Journal(chosen.job.folder, backend.url, kept=False)
        done = upload(job, chosen.entry.path, begun, journal, may=holder.check, latest=False, advance=advance)
        if before is None or before.order < done.entry.order:
            holder.check()
            insist(lambda: job.move_latest(done.entry), USUAL, Stop())
        return done
    finally:
        holder.release()


def _latest_entry(job: RemoteJob) -> Entry | None:
    name = insist(job.latest, USUAL, Stop())
    try:
        return job.load_entry(name) if name else None
    except CkptdError:
        return None  # it is damaged: any other is better

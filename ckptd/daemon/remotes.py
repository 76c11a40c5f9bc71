"""Before a start, where there is a remote: whose the job is, and whether the remote knows more than this store."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from ckptd.daemon.uploads import Uploads
from ckptd.daemon.voice import Voice
from ckptd.daemon.writer import set_aside
from ckptd.errors import CkptdError, DamagedError, RefusedError, RemoteError
from ckptd.remote.backend import open_backend
from ckptd.remote.download import Fetched, fetch, fetch_latest
from ckptd.remote.job import Entry, RemoteJob, command_digest, open_root
from ckptd.remote.journal import Journal, load_journal
from ckptd.remote.lease import Holder
from ckptd.remote.patience import Patience, Stop, insist
from ckptd.settings import Settings
from ckptd.store import index
from ckptd.store.job import JobRecord
from ckptd.store.layout import JOB_FILE, JobFolder
from ckptd.store.quantity import bytes_text
from ckptd.store.retention import Policy

REPORT_SECONDS = 10.0
"""How often a download says how far it is."""


@dataclass
class Joined:
    """A remote that the job is held at."""

    job: RemoteJob
    holder: Holder
    journal: Journal
    record: JobRecord | None
    """What the remote knows of the job."""
    patience: Patience
    latest: str = ""
    """Name of the remote's latest checkpoint of the present run."""
    handed_on: bool = False

    def uploads(self, policy: Policy) -> Uploads:
        """Begin to upload; from now on that is who gives the job back."""
        self.handed_on = True
        return Uploads(self.job, self.holder, self.journal, policy, patience=self.patience)

    def older_record(
        self, mine: JobRecord | None, argv: list[str], cwd: str, folder: JobFolder, voice: Voice
    ) -> JobRecord | None:
        """What is known of the job from before: by this store, or by the remote where that knows more.

        Raises NoStoreError.
        """
        theirs = self.record
        if theirs is None:
            return mine
        extra = {name: value for name, value in theirs.extra.items() if name not in ("command", "state")}
        same = theirs.extra.get("command") == command_digest(argv)
        # Another machine's folders may have other names: what is compared is the command.
        theirs = replace(
            theirs, extra=extra, argv=argv if same else theirs.argv, cwd=cwd if same else theirs.cwd
        )
        if mine is None:
            return theirs
        if theirs.created > mine.created:
            voice.say("the job was begun anew on another machine: what this store has of it is set aside")
            set_aside(folder)
            return replace(theirs, attempt=max(theirs.attempt, mine.attempt))
        if theirs.created == mine.created and theirs.updated > mine.updated:
            return replace(mine, state=theirs.state, attempt=max(theirs.attempt, mine.attempt))
        return mine

    def bring(self, folder: JobFolder, record: JobRecord, settings: Settings, voice: Voice) -> None:
        """Bring the remote's latest checkpoint, if that is newer than what the store has, and that of ``--from``.

        Raises RefusedError: store and remote have each gone on by themselves. RemoteError, DamagedError.
        """
        job = self.job
        name = self.latest = insist(job.latest, self.patience, Stop())
        good = [entry for entry in index.entries(folder) if entry.good]
        if name and not any(entry.path.name == name for entry in good):
            latest = _load(self, name)
            if latest is not None and latest.begun < record.created:
                self.latest = ""  # of a run before the present one
                return
            if latest is not None and good and settings.from_step is None:
                _refuse_two_lines(self, latest, good[-1])
            _bring_latest(self, folder, voice)
        if settings.from_step is not None and all(entry.step != settings.from_step for entry in good):
            for each in insist(job.names, self.patience, Stop()):
                entry = _load(self, each) if int(each[:12]) == settings.from_step else None
                if entry is not None and entry.begun == record.created:
                    _tell(fetch(job, entry, folder, patience=self.patience), job, voice)

    def begin(self, record: JobRecord) -> JobRecord:
        """Write what another machine must know, before there is anything to resume; the record with the URL in it.

        Raises RemoteError.
        """
        record = replace(record, extra={**record.extra, "remote": {"url": self.job.backend.url}})
        insist(lambda: self.job.save_record(record), self.patience, Stop())
        return record

    def leave(self) -> None:
        """Give the job back, where it was never begun."""
        if self.handed_on:
            return
        try:
            self.holder.release()
        except CkptdError:
            return  # it expires


def join(url: str, folder: JobFolder, settings: Settings, voice: Voice) -> Joined:
    """Take the lease, and read the record. Raises LockedError, RemoteError, DamagedError, RefusedError."""
    patience, stop = Patience(), Stop()
    try:
        backend = open_backend(url)
        insist(lambda: open_root(backend, create=True), patience, stop)
        job = RemoteJob(backend, folder.id, remember=True)
        holder = Holder(job, settings.lease)
        said = insist(holder.acquire, patience, stop)
    except RemoteError as error:
        raise RemoteError(
            f"{error}: the job is not started, for another machine may run it, or know more of it; "
            "--remote none goes on without"
        ) from error
    if said:
        voice.say(said)
    joined = Joined(job, holder, load_journal(folder, url), None, patience)
    try:
        known = settings.fresh or (folder.path / JOB_FILE).exists()
        try:
            joined.record = insist(job.load_record, patience, stop)
        except DamagedError:
            if not known:
                raise
        if joined.record is None and not known and insist(job.names, patience, stop):
            raise DamagedError(
                f"{url} has checkpoints of job {folder.id}, but its record is gone: start over with --fresh, or bring "
                f"them with 'ckptd copy --remote {url}' and go on with --remote none"
            )
    except BaseException:
        joined.leave()
        raise
    return joined


def _load(joined: Joined, name: str) -> Entry | None:
    try:
        return insist(lambda: joined.job.load_entry(name), joined.patience, Stop())
    except DamagedError:
        return None  # who fetches it says so, and takes an older one


def _bring_latest(joined: Joined, folder: JobFolder, voice: Voice) -> None:
    report = _Report(voice, joined)
    fetched = fetch_latest(joined.job, folder, patience=joined.patience, advance=report.advance)
    if fetched is not None:
        _tell(fetched, joined.job, voice)


class _Report:
    """Says now and then how far a download is."""

    def __init__(self, voice: Voice, joined: Joined) -> None:
        self._voice, self._joined = voice, joined
        self._done, self._next = 0, time.monotonic() + REPORT_SECONDS

    def advance(self, count: int) -> None:
        """So many more bytes are there; called by several threads, so that a line may be said twice."""
        self._done += count
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + REPORT_SECONDS
            place = self._joined.job.backend.url
            self._voice.say(f"bringing {self._joined.latest} from {place}: {bytes_text(self._done)} so far")


def _refuse_two_lines(joined: Joined, latest: Entry, mine: index.Entry) -> None:
    """Raise RefusedError unless what the store has last was uploaded, and so comes before ``latest``."""
    ahead = (mine.branch, mine.step, mine.created) < latest.order[1:]
    if ahead and (joined.journal.uploaded == mine.path.name or latest.manifest.parent == mine.id):
        return
    if ahead and mine.path.name in insist(joined.job.names, joined.patience, Stop()):
        return
    raise RefusedError(
        f"{joined.job.backend.url} has a checkpoint at step {latest.manifest.step}, taken on {latest.manifest.host}, "
        f"and this store has one at step {mine.step} that never got there: say which to go on from, "
        f"--from {latest.manifest.step} or --from {mine.step}"
    )


def _tell(fetched: Fetched, job: RemoteJob, voice: Voice) -> None:
    manifest = fetched.entry.manifest
    for name, why in fetched.skipped:
        voice.say(f"checkpoint {name} is damaged at the remote ({why}): going back to step {manifest.step}")
    if fetched.nbytes:
        voice.say(
            f"brought step {manifest.step} from {job.backend.url} "
            f"({bytes_text(fetched.nbytes)}, taken on {manifest.host})"
        )

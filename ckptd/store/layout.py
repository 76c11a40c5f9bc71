"""Where things are in a store, and whether a folder may be used as one. See docs/format.md."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from ckptd.errors import DamagedError, NoStoreError, UsageError
from ckptd.store import disk, job
from ckptd.store.job import JobRecord
from ckptd.store.manifest import FORMAT, ID, dump_json, load_json

MARKER = "ckptd-store.json"
JOBS = "jobs"
CHECKPOINTS = "checkpoints"
WORK_FOLDER = "work"
"""Of a job: work in progress, never listed, never read."""
JOB_FILE = "job.json"
LOCK_FILE = "lock"
WORK = ".tmp-"
"""Files whose names begin with it are work in progress; in version 1, folders too."""
MARKER_MAX_BYTES = 1 << 16
_OTHER = "name another with --store or CKPTD_STORE"


def new_id() -> str:
    """A fresh id of a job or a checkpoint: 8 hex digits."""
    return os.urandom(4).hex()


def default_store() -> Path:
    """$CKPTD_STORE, else ckptd below $XDG_STATE_HOME, else ~/.local/state/ckptd."""
    named = os.environ.get("CKPTD_STORE")
    if named:
        return Path(named).expanduser()
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification: a relative path in the variable is invalid and is ignored.
    base = Path(state) if Path(state).is_absolute() else Path("~/.local/state").expanduser()
    return base / "ckptd"


@dataclass(frozen=True)
class JobFolder:
    """One job's folder in a store."""

    path: Path

    @property
    def id(self) -> str:
        """Id of the job."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return self.path / CHECKPOINTS

    @property
    def work(self) -> Path:
        """Where checkpoints are made and taken apart."""
        return self.path / WORK_FOLDER

    @property
    def lock(self) -> Path:
        """The file that the process which runs the job holds."""
        return self.path / LOCK_FILE

    def make(self) -> None:
        """Make the folder if it isn't there; raises NoStoreError."""
        try:
            disk.make_folder(self.path)
            disk.make_folder(self.checkpoints)
        except OSError as error:
            raise NoStoreError(
                f"can't make {error.filename or self.path} ({disk.reason(error)}): {_OTHER}"
            ) from error

    def load(self) -> JobRecord:
        """What is known of the job; raises DamagedError, RefusedError (newer format)."""
        record = job.load(self.path / JOB_FILE)
        if record.id != self.id:
            raise DamagedError(f"{self.path / JOB_FILE} is of job {record.id}, not of {self.id}")
        return record

    def save(self, record: JobRecord) -> None:
        """Write what is known of the job, atomically; makes the folder. Raises NoStoreError."""
        if record.id != self.id:
            raise ValueError(f"a record of job {record.id} doesn't belong into {self.path}")
        self.make()
        path = self.path / JOB_FILE
        try:
            job.save(path, record)
        except OSError as error:
            raise NoStoreError(
                f"can't write {path} ({disk.reason(error)}): make room there or name another --store"
            ) from error


@dataclass(frozen=True)
class Store:
    """A folder that open_store found fit."""

    path: Path

    def job(self, job_id: str) -> JobFolder:
        """A job's folder, there or not."""
        if not ID.fullmatch(job_id):
            raise UsageError(f"{job_id!r} is not the id of a job (8 hex digits): ckptd ls shows them")
        return _own(JobFolder(self.path / JOBS / job_id))

    def jobs(self) -> list[JobFolder]:
        """All jobs, by id. Raises NoStoreError: one can't be read, or others may write there."""
        try:
            entries = sorted((self.path / JOBS).iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise NoStoreError(f"store {self.path} can't be read: {disk.reason(error)}") from error
        return [_own(JobFolder(path)) for path in entries if ID.fullmatch(path.name) and path.is_dir()]


def open_store(path: Path, *, create: bool = True) -> Store:
    """Open a store for writing, making it if need be; with ``create=False`` one that is there, for reading.

    Raises NoStoreError: it is a file, is not there (``create=False``), is another's, can't be written, is of
    a newer format, or is a folder with something else in it.
    """
    path = Path(os.path.abspath(path))  # resolve() would follow links, and messages name another path
    try:
        if not path.exists() and not path.is_symlink():
            if not create:
                raise NoStoreError(f"there is no store at {path}: name one with --store or CKPTD_STORE")
            disk.make_folders(path)
        _check_folder(path, write=create)
        if create and not (path / MARKER).exists():
            _mark(path)
        version, created = _check_format(path)
        if create and version < FORMAT:
            disk.replace_file(path / MARKER, dump_json({"format": FORMAT, "created": created}))
        if create:
            for part in path.glob(f"{WORK}{MARKER}-*"):
                disk.remove_part(part)
            disk.make_folder(path / JOBS)
        if (path / JOBS).exists():
            _check_folder(path / JOBS, write=create)
    except OSError as error:
        place = error.filename or path
        raise NoStoreError(f"store {path} can't be used: {place}: {disk.reason(error)}; {_OTHER}") from error
    return Store(path)


def _own(folder: JobFolder) -> JobFolder:
    """Raise NoStoreError if the job's folders are there and not ours alone to write."""
    for path in (folder.path, folder.checkpoints, folder.work):
        if path.is_symlink():
            raise NoStoreError(
                f"{path} is a symbolic link: a job's folders are folders; move it to its place"
            )
        if path.is_dir():
            _check_folder(path, write=False)
    return folder


def _check_folder(path: Path, *, write: bool) -> None:
    """Raise NoStoreError unless it is a folder of ours that nobody else may write."""
    if not path.exists():
        raise NoStoreError(f"store {path} is a link to nothing: {_OTHER}")
    if not path.is_dir():
        raise NoStoreError(f"store {path} is a file, not a folder: {_OTHER}")
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise NoStoreError(
            f"store {path} belongs to user {status.st_uid}, you are {os.geteuid()}: "
            "name one of your own with --store or CKPTD_STORE"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise NoStoreError(f"store {path} may be written by others (mode {mode:04o}): chmod go-w {path}")
    if write and not os.access(path, os.W_OK | os.X_OK):
        raise NoStoreError(f"store {path} can't be written: {_OTHER}")


def _mark(path: Path) -> None:
    """Make an empty folder a store."""
    # lost+found: an own file system for the store is a good idea.
    names = [entry.name for entry in path.iterdir()]
    others = [name for name in names if not name.startswith(WORK) and name not in (JOBS, "lost+found")]
    if others:
        if MARKER in others:
            return  # another process was faster
        raise NoStoreError(
            f"{path} is not a ckptd store and not empty (it holds {others[0]!r}): name an empty or new folder"
        )
    disk.replace_file(path / MARKER, dump_json({"format": FORMAT, "created": time.time()}))


def _check_format(path: Path) -> tuple[int, float]:
    """(version, Unix seconds when it was made); raises NoStoreError if we can't read that version."""
    marker = path / MARKER
    if not marker.exists():
        raise NoStoreError(f"{path} is not a ckptd store (no {MARKER} in it): {_OTHER}")
    try:
        fields = load_json(disk.read_file(marker, MARKER_MAX_BYTES))
    except ValueError as error:
        raise NoStoreError(
            f'{marker} is damaged ({error}): if this is a store, put {{"format": {FORMAT}}} into it'
        ) from error
    version, created = fields.get("format"), fields.get("created")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise NoStoreError(f'{marker} names no format: if it is a store, put {{"format": {FORMAT}}} into it')
    if version > FORMAT:
        raise NoStoreError(f"store {path} is of format {version}, this ckptd reads {FORMAT}: update ckptd")
    return version, float(created) if isinstance(created, int | float) else time.time()

"""Who runs a job, where no lock of one machine's kernel reaches: leases that expire. See docs/format.md."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import psutil

from ckptd.errors import DamagedError, LockedError, RemoteError
from ckptd.remote.job import RemoteJob
from ckptd.remote.sealed import seal, unseal
from ckptd.store.quantity import clock_text

SECONDS = 120.0
"""For how long a lease is taken; it is renewed in a third of that."""
SETTLE = 2.0
"""Seconds after which, where an object can't be made in one step, two that tried see each other."""
_TERM = re.compile(r"(?P<term>\d{8})\.json")
_TRIES = 5


@dataclass(frozen=True)
class Lease:
    """One term of a job."""

    term: int
    owner: str
    """Drawn for each run of ckptd; 32 hex digits."""
    host: str
    pid: int
    started: float
    """When the process began, Unix seconds."""
    boot: str
    """Of the machine and the pid namespace; '' if unknown."""
    since: float
    expires: float

    def over(self, now: float) -> bool:
        """It has expired, or its process is provably gone."""
        return now >= self.expires or self.gone()

    def gone(self) -> bool:
        """It was taken on this very machine since it was booted, by a process that is no more."""
        if not self.boot or self.boot != boot():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1.0
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False

    def words(self) -> str:
        """Who, and until when."""
        return f"process {self.pid} on {self.host} until {clock_text(self.expires)}"


def boot() -> str:
    """What is the same for processes that see each other's ids, and for no others; '' if it can't be told."""
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{machine}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def read_lease(job: RemoteJob) -> Lease | None:
    """The one that counts: of the highest term; None if nobody ever had the job, or gave it back.

    Raises RemoteError, RefusedError.
    """
    term = _highest(job)
    return _read(job, term) if term else None


def _highest(job: RemoteJob) -> int:
    found = (_TERM.fullmatch(PurePosixPath(name).name) for name in job.backend.list(job.path("leases")))
    return max((int(match["term"]) for match in found if match), default=0)


def _read(job: RemoteJob, term: int) -> Lease | None:
    name = job.path(_name(term))
    data = job.backend.read(name, 1 << 16)
    if data is None:
        return None
    try:
        fields = unseal(data, f"{job.backend.url}: {name}")
        lease = Lease(term=term, **fields)
        if not all(isinstance(at, int | float) for at in (lease.since, lease.expires, lease.started)):
            raise DamagedError("no times")
    except (DamagedError, TypeError):
        # Cut by a crash, or half written at this moment: somebody's, for as long as one can be.
        now = time.time()
        return Lease(term, "", "an unknown host", 0, 0.0, "", now, now + SECONDS)
    return lease


def _name(term: int) -> str:
    return f"leases/{term:08d}.json"


def _fields(lease: Lease) -> bytes:
    fields = asdict(lease)
    del fields["term"]
    return seal(fields)


class Holder:
    """This process's hold on a job at a remote."""

    def __init__(
        self, job: RemoteJob, seconds: float = SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self.job = job
        self._seconds = seconds
        self._clock = clock
        self._owner = secrets.token_hex(16)
        self.lease: Lease | None = None

    @property
    def pause(self) -> float:
        """Seconds from one renewal to the next."""
        return self._seconds / 3

    def acquire(self) -> str:
        """Take the job; returns what there is to say of the one who had it, or ''.

        Raises LockedError: another has it. RemoteError.
        """
        said = ""
        for _ in range(_TRIES):
            term = _highest(self.job)
            before = _read(self.job, term) if term else None
            if before is not None and not before.over(self._clock()):
                raise LockedError(held_sentence(self.job, before))
            if before is not None:
                why = "is gone" if before.gone() else f"had it until {clock_text(before.expires)}"
                said = f"taking the job over from process {before.pid} on {before.host}, which {why}"
            if self._claim(term + 1):
                self._forget_earlier(term + 1)
                return said
        raise LockedError(f"job {self.job.id} at {self.job.backend.url} is being taken by others: try again")

    def _claim(self, term: int) -> bool:
        lease = self._make(term, self._clock())
        name = self.job.path(_name(term))
        if not self.job.backend.create(name, _fields(lease)):
            return False
        if not self.job.backend.exclusive:
            time.sleep(SETTLE)  # whoever wrote last has it
        seen = _read(self.job, term)
        if seen is None or seen.owner != self._owner:
            return False
        self.lease = lease
        return True

    def _make(self, term: int, since: float) -> Lease:
        started = psutil.Process().create_time()
        return Lease(
            term, self._owner, socket.gethostname(), os.getpid(), started, boot(), since,
            self._clock() + self._seconds,
        )  # fmt: skip

    def renew(self) -> None:
        """Have it for longer. Raises LockedError if it is another's by now, RemoteError."""
        self._check_ours()
        assert self.lease is not None
        fresh = replace(self.lease, expires=self._clock() + self._seconds)
        self.job.backend.write(self.job.path(_name(fresh.term)), _fields(fresh))
        self.lease = fresh
        self._check_ours()

    def check(self) -> None:
        """Raise LockedError unless the job is ours at this moment, by the remote's own word; RemoteError."""
        if self.lease is not None and self._clock() >= self.lease.expires:
            self.renew()  # held up for longer than it lasts: ours still if nobody took it
            return
        self._check_ours()

    def _check_ours(self) -> None:
        if self.lease is None:
            raise LockedError(f"job {self.job.id} at {self.job.backend.url} is not ours")
        found, url = read_lease(self.job), self.job.backend.url
        if found is not None and (found.term, found.owner) == (self.lease.term, self._owner):
            return
        if found is not None and (found.term, found.owner) == (self.lease.term, ""):
            raise RemoteError(f"{url}: the lease of job {self.job.id} can't be read")
        self.lease = None
        if found is None:
            raise LockedError(f"the lease of job {self.job.id} at {url} was removed")
        raise LockedError(f"job {self.job.id} at {url} is held by {found.words()} by now")

    def release(self) -> None:
        """Give it back. Raises RemoteError; then it expires."""
        if self.lease is None:
            return
        lease, self.lease = self.lease, None
        found = _read(self.job, lease.term)
        if found is not None and found.owner == self._owner:
            self.job.backend.remove(self.job.path(_name(lease.term)))

    def _forget_earlier(self, term: int) -> None:
        for name in self.job.backend.list(self.job.path("leases")):
            match = _TERM.fullmatch(PurePosixPath(name).name)
            if match and int(match["term"]) < term:
                with suppress(RemoteError):  # only the highest counts
                    self.job.backend.remove(name)


def held_sentence(job: RemoteJob, lease: Lease) -> str:
    """Why a second host is refused, and the way out."""
    return (
        f"job {job.id} at {job.backend.url} is held by {lease.words()}, unless renewed: stop it there, wait, or see "
        f"'ckptd unlock --remote {job.backend.url}'"
    )


def remove_lease(job: RemoteJob, lease: Lease) -> None:
    """Take a lease away, whoever has it. Raises RemoteError."""
    job.backend.remove(job.path(_name(lease.term)))

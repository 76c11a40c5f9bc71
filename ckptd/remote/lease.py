"""Who runs a job, where no lock of one machine's kernel reaches: leases that expire. See docs/format.md."""

from __future__ import annotations

import os
import re
import secrets
import socket
import threading
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
"""Seconds after which, where an object can't be made in one step, two that tried see each other; and after which
a lease that can't be read is no more being written."""
_NAME = re.compile(r"(?P<term>\d{8})(?:-(?P<renewal>\d{8}))?\.json")
_TRIES = 10


@dataclass(frozen=True)
class Lease:
    """One term of a job."""

    term: int
    renewal: int
    """How often it was renewed."""
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
    for _ in range(_TRIES):
        found = _listed(job)
        if not found:
            return None
        name = max(found, key=lambda each: found[each])
        data = job.backend.read(name, 1 << 16)
        if data is not None:
            return _decode(data, found[name], f"{job.backend.url}: {name}")
    raise RemoteError(f"{job.backend.url}: the lease of job {job.id} changes faster than it can be read")


def _listed(job: RemoteJob) -> dict[str, tuple[int, int]]:
    """Names of all leases, with term and renewal."""
    found = {}
    for name in job.backend.list(job.path("leases")):
        match = _NAME.fullmatch(PurePosixPath(name).name)
        if match:
            found[name] = int(match["term"]), int(match["renewal"] or 0)
    return found


def _decode(data: bytes, number: tuple[int, int], where: str) -> Lease:
    try:
        lease = Lease(term=number[0], renewal=number[1], **unseal(data, where))
        if not all(isinstance(at, int | float) for at in (lease.since, lease.expires, lease.started)):
            raise DamagedError(f"{where} has no times")
    except (DamagedError, TypeError):
        # Half written at this moment, cut by a crash, or spoiled: see Holder.acquire.
        now = time.time()
        return Lease(number[0], number[1], "", "an unknown host", 0, 0.0, "", now, now + SECONDS)
    return lease


def _name(lease: Lease) -> str:
    """A term is claimed under its number alone; each renewal is another object, so that one always is there."""
    return f"leases/{lease.term:08d}{f'-{lease.renewal:08d}' if lease.renewal else ''}.json"


def _fields(lease: Lease) -> bytes:
    fields = asdict(lease)
    del fields["term"], fields["renewal"]
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
        self._turn = threading.Lock()
        """One thread renews, another asks."""

    @property
    def pause(self) -> float:
        """Seconds from one renewal to the next."""
        return self._seconds / 3

    def acquire(self) -> str:
        """Take the job; returns what there is to say of the one who had it, or ''.

        Raises LockedError: another has it. RemoteError.
        """
        said, unread = "", (0, 0)
        for _ in range(_TRIES):
            before = read_lease(self.job)
            if before is not None and before.owner == self._owner:
                self.lease = before  # the answer to an earlier try was lost
                return said
            if before is not None and not before.owner:
                # Whoever writes it will be told by the higher term that it is another's.
                number = before.term, before.renewal
                if number != unread:
                    unread = number
                    time.sleep(SETTLE)
                    continue
                said = "taking the job over from a lease that can't be read"
            elif before is not None:
                if not before.over(self._clock()):
                    raise LockedError(held_sentence(self.job, before))
                why = "is gone" if before.gone() else f"had it until {clock_text(before.expires)}"
                said = f"taking the job over from process {before.pid} on {before.host}, which {why}"
            term = before.term + 1 if before is not None else 1
            if self._claim(term):
                self._forget(lambda number: number < (self._term(), 0))
                return said
        raise LockedError(f"job {self.job.id} at {self.job.backend.url} is being taken by others: try again")

    def _term(self) -> int:
        return self.lease.term if self.lease is not None else 0

    def _claim(self, term: int) -> bool:
        now = self._clock()
        lease = Lease(
            term, 0, self._owner, socket.gethostname(), os.getpid(), psutil.Process().create_time(), boot(), now,
            now + self._seconds,
        )  # fmt: skip
        if not self.job.backend.create(self.job.path(_name(lease)), _fields(lease)):
            return False
        if not self.job.backend.exclusive:
            time.sleep(SETTLE)  # whoever wrote last has it
        seen = read_lease(self.job)
        if seen is None or (seen.term, seen.owner) != (term, self._owner):
            return False
        self.lease = lease
        return True

    def renew(self) -> None:
        """Have it for longer. Raises LockedError if it is another's by now, RemoteError."""
        with self._turn:
            self._renew()

    def _renew(self) -> None:
        self._check_ours()
        assert self.lease is not None
        old = self.lease
        fresh = replace(old, expires=self._clock() + self._seconds, renewal=old.renewal + 1)
        self.job.backend.write(self.job.path(_name(fresh)), _fields(fresh))
        self.lease = fresh
        self._forget(lambda number: (old.term, 0) <= number <= (old.term, old.renewal))
        self._check_ours()

    def check(self) -> None:
        """Raise LockedError unless the job is ours at this moment, by the remote's own word; RemoteError."""
        with self._turn:
            if self.lease is not None and self._clock() >= self.lease.expires:
                self._renew()  # held up for longer than it lasts: ours still if nobody took it
            else:
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
        with self._turn:
            if self.lease is None:
                return
            lease, self.lease = self.lease, None
            found = read_lease(self.job)
            if found is not None and (found.term, found.owner) == (lease.term, self._owner):
                remove_lease(self.job, lease)

    def _forget(self, old: Callable[[tuple[int, int]], bool]) -> None:
        """Remove leases that don't count any more."""
        with suppress(RemoteError):  # only the highest counts
            for name, number in _listed(self.job).items():
                if old(number):
                    self.job.backend.remove(name)


def held_sentence(job: RemoteJob, lease: Lease) -> str:
    """Why a second host is refused, and the way out."""
    return (
        f"job {job.id} at {job.backend.url} is held by {lease.words()}, unless renewed: stop it there, wait, or see "
        f"'ckptd unlock --remote {job.backend.url}'"
    )


def remove_lease(job: RemoteJob, lease: Lease) -> None:
    """Take a lease away, whoever has it. Raises RemoteError."""
    # The newest last: as long as there is one, the term is taken.
    for name, number in sorted(_listed(job).items(), key=lambda pair: pair[1]):
        if number[0] <= lease.term:
            job.backend.remove(name)

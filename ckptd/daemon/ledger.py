"""The job's record on the disk, kept up to date without the loop waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ckptd import states
from ckptd.daemon.news import News
from ckptd.daemon.processes import ProcessId
from ckptd.daemon.worker import Worker
from ckptd.store.job import JobRecord
from ckptd.store.layout import JobFolder

_ON_DISK = {states.FINISHED: "finished", states.FAILED: "failed"}
"""The store knows three states; all others are 'unfinished', and in ``extra`` as they are."""


WRITTEN = "written"


class Ledger:
    """The record, and the job's state with it."""

    def __init__(self, folder: JobFolder, record: JobRecord, news: News | None = None) -> None:
        self._folder = folder
        self._news = news
        self._worker = Worker("ckptd-ledger")
        self.state = states.NEW
        self.record = record
        self.failures = 0
        """How often the record could not be written."""
        self._due = False
        """A write is to begin that takes the record as it is then."""
        self._waiting: list[Callable[[], None]] = []

    def fileno(self) -> int:
        """Readable when a write is over."""
        return self._worker.fileno()

    def collect(self) -> str:
        """Look at writes that are over; returns why the first of them all failed, else ''."""
        why = ""
        for done in self._worker.results():
            if done.tag == WRITTEN:
                self._waiting.pop(0)()
            elif done.error is not None:
                why = "" if self.failures else str(done.error)
                self.failures += 1
        return why

    def enter(self, state: str, **changes: Any) -> None:
        """Go to another state (one that states.TRANSITIONS allows) and write the record with ``changes``."""
        if state != self.state and not states.allowed(self.state, state):
            raise ValueError(f"a job can't go from {self.state} to {state}")
        changed, self.state = state != self.state, state
        self.write(**changes)
        if changed and self._news is not None:
            self._news.tell("state", state=state)

    def write(self, **changes: Any) -> None:
        """Change fields of the record, or, where it has none of that name, of its ``extra``."""
        known = {name: value for name, value in changes.items() if hasattr(self.record, name)}
        extra = {name: value for name, value in changes.items() if name not in known}
        record = replace(
            self.record, **known,
            state=_ON_DISK.get(self.state, "unfinished"),
            updated=time.time(),
            extra={**self.record.extra, **extra, "state": self.state},
        )  # fmt: skip
        self.record = record
        if not self._due:  # else that write takes this one along: they may come faster than a disk writes
            self._due = True
            self._worker.submit("record", self._save)

    def once_written(self, then: Callable[[], None]) -> None:
        """Have ``collect`` call ``then`` when all changes so far are on the disk, or can't be brought there."""
        self._waiting.append(then)
        self._worker.submit(WRITTEN, lambda: None)

    def _save(self) -> None:
        """In the worker."""
        self._due = False  # first: what changes from now on is written again
        self._folder.save(self.record)

    def close(self, wait: float) -> bool:
        """Finish writing; False if the disk took longer than ``wait`` seconds."""
        return self._worker.close(wait)


def recorded_process(record: JobRecord, host: str) -> ProcessId | None:
    """The main process of the last attempt as the record has it, if that was on ``host``."""
    pid, started = record.extra.get("pid"), record.extra.get("started")
    if record.extra.get("host") != host or not isinstance(pid, int) or not isinstance(started, float | int):
        return None
    return ProcessId(pid, float(started))

"""Serves the page on loopback, in threads that the event loop never waits for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, start_http_server

from ckptd.daemon.table import read_table
from ckptd.errors import CkptdError, UsageError
from ckptd.metrics.page import Snapshot, families
from ckptd.store.layout import Store

if TYPE_CHECKING:
    from prometheus_client.core import Metric

HOST = "127.0.0.1"
LOOK = 5.0
"""Seconds between looks at the records of jobs that don't run."""
WEIGH = 60.0
"""Seconds between looks at how much the store takes."""


class Exporter:
    """The page of one process. ``jobs`` and ``sources`` are set by its loop, and read by the threads here."""

    def __init__(self, port: int, store: Store, *, others: bool = False) -> None:
        """Listen. ``port`` 0: any; ``others``: show all jobs of the store. Raises UsageError."""
        self._store, self._others = store, others
        self._over = threading.Event()
        self._snapshot = Snapshot()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        # Threads begin with the mask of the one that starts them: no signal ever arrives in theirs.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._server, self._thread = start_http_server(port, HOST, registry)
            self._looker = threading.Thread(target=self._look, name="ckptd-metrics-store", daemon=True)
            self._looker.start()
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UsageError(
                f"--metrics-port {port}: can't listen on {HOST}:{port} ({why}): choose another"
            ) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.url = f"http://{HOST}:{self._server.server_address[1]}/metrics"
        self.jobs: Sequence[Mapping[str, Any]] = ()
        """Those that run, as they answer to Look."""
        self.sources: Sequence[Mapping[str, Any]] = ()

    def describe(self) -> Iterable[Metric]:
        """For the registry: nothing is known in advance."""
        return []

    def collect(self) -> Iterable[Metric]:
        """For the registry, on the thread of whoever asks."""
        jobs = list(self.jobs)
        known = {facts.get("id") for facts in jobs}
        jobs += [facts for facts in self._snapshot.jobs if facts.get("id") not in known]
        return families(replace(self._snapshot, jobs=jobs, sources=self.sources))

    def close(self) -> None:
        """Stop listening. A disk that hangs is not waited for."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)
        self._looker.join(0.2)

    def _look(self) -> None:
        """What only the disk knows. If that hangs, what was known last is shown."""
        left = 0.0
        while True:
            found = self._snapshot
            if self._others:
                found = replace(found, jobs=_rows(self._store))
            if left <= 0:
                left = WEIGH
                found = replace(found, used=disk_usage(self._store.path), free=_free(self._store.path))
            self._snapshot = found
            left -= LOOK
            if self._over.wait(LOOK):
                return


def _rows(store: Store) -> list[dict[str, Any]]:
    try:
        return [asdict(row) for row in read_table(store)]
    except (CkptdError, OSError):
        return []


def disk_usage(folder: Path) -> int:
    """Bytes that all files below a folder take; what has several names counts once, what vanishes not at all."""
    total, seen = 0, set()
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(place, name))
            except OSError:
                continue
            if status.st_nlink == 1 or (status.st_dev, status.st_ino) not in seen:
                total += status.st_blocks * 512
            if status.st_nlink > 1:
                seen.add((status.st_dev, status.st_ino))
    return total


def _free(folder: Path) -> int | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize

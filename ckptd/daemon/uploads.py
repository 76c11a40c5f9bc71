"""Checkpoints on their way to a remote: a thread that neither training nor the next commit waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckptd.daemon.worker import Done, Worker
from ckptd.errors import CkptdError, DamagedError, LockedError, RemoteError
from ckptd.remote.job import RemoteJob
from ckptd.remote.journal import Journal
from ckptd.remote.lease import Holder
from ckptd.remote.patience import USUAL, GivenUpError, Patience, Stop
from ckptd.remote.retention import retain
from ckptd.remote.upload import Uploaded, upload
from ckptd.store.job import JobRecord
from ckptd.store.retention import Policy

BETWEEN = Patience(first=1.0, longest=300.0)
"""Between one upload that failed and the next."""
FAREWELL = 3.0
"""Seconds for the record and the lease at the end, at least."""


@dataclass(frozen=True)
class Said:
    """Something for the loop to tell and to keep."""

    text: str = ""
    """For the user; '' where there is nothing to say."""
    facts: dict[str, Any] | None = None
    """For the record: how things stand."""


class Uploads:
    """Uploads the newest checkpoint of one job, one at a time, and keeps its lease.

    All methods but the thread's own return at once. ``results()`` has a Said in each Done.
    """

    def __init__(
        self, job: RemoteJob, holder: Holder, journal: Journal, policy: Policy, *,
        patience: Patience = USUAL, between: Patience = BETWEEN,
    ) -> None:  # fmt: skip
        self._job, self._holder, self._journal, self._policy = job, holder, journal, policy
        self._patience, self._between = patience, between
        self._stop = Stop()
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._waiting: tuple[Path, float] | None = None
        self._busy = False
        self._lost = ""
        """Why the job is not ours any more."""
        self._failures = 0
        self._facts: dict[str, Any] = {"url": job.backend.url, "error": ""}
        self._out = Worker("ckptd-uploads-said")
        self._thread = threading.Thread(target=self._run, name="ckptd-uploads", daemon=True)
        self._keeper = threading.Thread(target=self._keep, name="ckptd-lease", daemon=True)
        self._thread.start()
        self._keeper.start()

    def fileno(self) -> int:
        """Readable when there is something to tell."""
        return self._out.fileno()

    def results(self) -> list[Done]:
        """What has happened since the last call."""
        return self._out.results()

    def offer(self, path: Path, begun: float) -> None:
        """A checkpoint was committed: it is uploaded next; one that still waits is not uploaded any more."""
        with self._changed:
            self._waiting = path, begun
            self._changed.notify_all()

    def hold(self) -> None:
        """A dump is urgent: begin no new piece until ``go``."""
        self._stop.hold()

    def go(self) -> None:
        """Go on."""
        self._stop.go()

    def done(self) -> bool:
        """Nothing waits, and nothing is under way."""
        with self._changed:
            return not self._busy and self._waiting is None

    def wait(self, seconds: float, impatient: Callable[[], bool] = lambda: False) -> bool:
        """Whether all is done, after so many seconds at most; ``impatient`` is asked ten times a second."""
        end = time.monotonic() + seconds
        while not self.done() and not self._lost and time.monotonic() < end and not impatient():
            with self._changed:
                self._changed.wait(0.1)
        return self.done()

    def close(self, wait: float, record: JobRecord, impatient: Callable[[], bool] = lambda: False) -> str:
        """Give the last upload ``wait`` seconds, then write the record and give the lease back.

        ``impatient``: whether somebody wants it to end now. Returns a sentence if the newest checkpoint is
        not at the remote.
        """
        self._stop.go()
        end = time.monotonic() + wait
        late = not self.wait(wait, impatient) and not self._lost
        self._stop.stop()
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._farewell(record, max(FAREWELL, end - time.monotonic()))
        self._out.close(1.0)
        return self._late() if late else ""

    def _late(self) -> str:
        why = f" ({self._facts['error']})" if self._facts["error"] else ""
        return f"the newest checkpoint is not at {self._job.backend.url} yet{why}: the next start finishes it"

    # ---- the uploading thread -------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            with self._changed:
                while self._waiting is None and not self._closing.is_set():
                    self._changed.wait()
                if self._waiting is None or self._closing.is_set():
                    return
                (path, begun), self._waiting, self._busy = self._waiting, None, True
            again = False
            try:
                again = self._upload(path, begun)
            finally:
                with self._changed:
                    if again and self._waiting is None:
                        self._waiting = path, begun
                    self._busy = False
                    self._changed.notify_all()
            if again and not self._nap(self._between.wait(self._failures)):
                return

    def _nap(self, seconds: float) -> bool:
        """Wait before another try; False if it is over."""
        try:
            self._stop.sleep(seconds)
        except GivenUpError:
            return False
        return True

    def _upload(self, path: Path, begun: float) -> bool:
        """One try; whether it must be tried again."""
        if self._lost:
            return False
        started = time.monotonic()
        try:
            done = upload(
                self._job, path, begun, self._journal, patience=self._patience, stop=self._stop,
                may=self._holder.check,
            )  # fmt: skip
        except GivenUpError:
            return False
        except LockedError as error:
            self._lose(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - training goes on, whatever it is
            return self._failed(path, error)
        self._succeeded(done, time.monotonic() - started)
        self._retain(path.parent)
        return False

    def _failed(self, path: Path, error: Exception) -> bool:
        if isinstance(error, DamagedError) and not path.exists():
            return False  # retention was faster; what is newer is offered anyway
        self._failures += 1
        text = str(error) if isinstance(error, CkptdError) else f"{type(error).__name__}: {error}"
        again = not isinstance(error, DamagedError)
        first = self._failures == 1
        self._facts = {**self._facts, "error": text, "error_at": time.time(), "failures": self._failures}
        then = "training goes on, and it is tried again" if again else "training goes on"
        self._tell(f"checkpoint {path.name} can't be uploaded: {text}; {then}" if first else "")
        return again

    def _succeeded(self, done: Uploaded, seconds: float) -> None:
        manifest = done.entry.manifest
        self._facts = {
            "url": self._job.backend.url, "error": "", "uploaded": done.entry.name, "step": manifest.step,
            "at": time.time(), "sent": done.nbytes, "seconds": seconds,
        }  # fmt: skip
        again, self._failures = self._failures > 0, 0
        self._tell(f"step {manifest.step} is at {self._job.backend.url} now" if again else "")

    def _retain(self, local: Path) -> None:
        try:
            retain(self._job, self._policy, local, self._holder.check)
        except LockedError as error:
            self._lose(str(error))
        except CkptdError as error:
            # Too much is there, nothing too little; the next upload tries again.
            self._facts = {**self._facts, "retention_error": str(error)}
            self._tell("")

    # ---- the lease ------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._closing.wait(self._holder.pause) and not self._lost:
            try:
                self._holder.renew()
            except LockedError as error:
                self._lose(str(error))
            except RemoteError:
                continue  # out of reach: uploads say so, and nothing is uploaded without a look at the lease

    def _lose(self, why: str) -> None:
        if not self._lost and not self._closing.is_set():
            self._lost = why
            self._facts = {**self._facts, "error": why, "error_at": time.time()}
            self._tell(f"{why}: this run goes on, but its checkpoints stay here")
        with self._changed:
            self._changed.notify_all()

    def _farewell(self, record: JobRecord, wait: float) -> None:
        def leave() -> None:
            try:
                if not self._lost:
                    self._holder.check()
                    self._job.save_record(record)
                    self._holder.release()
            except CkptdError:
                return  # then the lease expires, and the next start writes the record

        last = threading.Thread(target=leave, name="ckptd-farewell", daemon=True)
        last.start()
        last.join(wait)

    def _tell(self, text: str) -> None:
        said = Said(text, self._facts)
        self._out.submit("said", _returning(said))


def _returning(said: Said) -> Callable[[], object]:
    return lambda: said

"""A job as a service: what its manager is told while it runs, and how a stop gets the time that it needs.

systemd ends a service that takes longer to stop than TimeoutStopSec. A dump that is under way asks for more, a
little at a time: as long as the job's own grace lasts, and behind that as long as the disk takes more of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ckptd import states
from ckptd.daemon.notify import Notifier

if TYPE_CHECKING:
    from ckptd.daemon.context import Context

EXTENSION = 15.0
"""Seconds that are asked for at a time: what a ckptd that hangs holds up a stop by."""
AGAIN = 2.0
"""Seconds between two such requests."""
PATIENCE = 60.0
"""Seconds for which a disk may take nothing before no more time is asked for it: one fsync can be that long."""
MARGIN = 10.0
"""Seconds behind the grace in which processes are ended and the record is written."""
_PROGRESS = 65536
"""Bytes; our own lines and records are less."""


class Service:
    """Tells the manager how the job stands, whenever that changes. Without a manager it does nothing."""

    def __init__(self, context: Context, notifier: Notifier) -> None:
        self._job = context
        self._notifier = notifier
        self._ready = False
        self._said = ""
        self._written = 0
        self._moved = 0.0
        """When the disk last took something, by the loop's clock."""
        self._asked = -AGAIN
        """When time was last asked for."""
        if notifier.watchdog_seconds:
            self._live()

    def look(self) -> None:
        """Something may have changed: the loop has turned."""
        if not self._notifier.listens:
            return
        state = self._job.ledger.state
        if not self._ready and state in states.WITH_PROCESS:
            self._ready = self._notifier.ready()
        text = self.words()
        if text != self._said and self._notifier.status(text):
            self._said = text
        if self._job.stop.deadline:
            self._ask_for_time()

    def words(self) -> str:
        """The job's state and step, as ``ckptd ps`` has them."""
        extra = self._job.ledger.record.extra
        words = [self._job.ledger.state]
        if (step := extra.get("step")) is not None:
            words.append(f"step {step}")
        if (saved := extra.get("checkpoint_step")) is not None:
            words.append(f"saved step {saved}")
        return ", ".join(words)

    def leave(self, closing: float) -> None:
        """The job is over. ``closing``: seconds at most for each of record, writer and, without a stop, upload."""
        if not self._notifier.listens:
            return
        self._notifier.status(self.words())
        self._notifier.stopping()
        rest = self._job.stop.deadline - self._job.loop.now() if self._job.stop.deadline else closing
        self._notifier.extend(max(rest, 0.0) + 2 * closing + MARGIN)

    def _live(self) -> None:
        # From the loop, and not from a thread: what is watched is that the loop goes round.
        self._notifier.watchdog()
        self._job.loop.after("watchdog", self._notifier.watchdog_seconds / 2, self._live)

    def _ask_for_time(self) -> None:
        now = self._job.loop.now()
        if now - self._asked < AGAIN:
            return
        first = self._asked < 0
        self._asked = now
        self._job.loop.after("extend", AGAIN, self.look)  # with no news the loop might sleep
        written = _bytes_written()
        if first or written - self._written > _PROGRESS:
            self._moved = now
        self._written = written
        attempt = self._job.attempt
        writing = attempt is not None and attempt.writing > 0
        if now < self._job.stop.deadline + MARGIN or (writing and now < self._moved + PATIENCE):
            self._notifier.extend(EXTENSION)


def _bytes_written() -> int:
    """What this process has written so far, to anything; 0 where the kernel doesn't count."""
    try:
        words = Path("/proc/self/io").read_text().split()
        return int(words[words.index("wchar:") + 1])
    except (OSError, ValueError, IndexError):
        return 0

"""What a ckptd that was killed has left: copies in memory, a program that still runs, one that has come to its end."""

from __future__ import annotations

import os
from collections.abc import Callable

from ckptd import states
from ckptd.daemon.attempt import Attempt
from ckptd.daemon.context import Context
from ckptd.daemon.processes import ProcessId
from ckptd.daemon.resume import Base
from ckptd.daemon.worker import Done
from ckptd.daemon.writer import Committed, Saving
from ckptd.store import index

RECOVERED = "recovered-"
"""Before the id of a dump that an earlier ckptd was told of."""


class Takeover:
    """Looks at what is left, at the start of a ckptd. ``exited``: the program has ended."""

    def __init__(self, context: Context, orphan: ProcessId | None, exited: Callable[[Attempt], None]) -> None:
        self._job, self._orphan, self._exited = context, orphan, exited
        self._before = str(context.ledger.record.extra.get("state", ""))
        """The job's state under the ckptd that is gone."""

    def save_copies(self) -> None:
        """Save copies that are complete in memory and were not saved: before the first look for a checkpoint."""
        entries = index.entries(self._job.folder)
        for copy in self._job.segments.complete(after=entries[-1].step if entries else -1):
            self._job.writer.save(
                Saving(
                    dump=RECOVERED + copy.dump, segment=copy.path, step=copy.step, reason="recovered",
                    attempt=self._job.ledger.record.attempt, seconds=0.0, leave=False,
                )
            )  # fmt: skip

    def saved(self, done: Done) -> bool:
        """Whether this piece of work was such a copy; says what came of it."""
        if not done.tag.startswith(f"saved:{RECOVERED}"):
            return False
        if isinstance(done.value, Committed):
            step, dump = done.value.saving.step, done.value.saving.dump.removeprefix(RECOVERED)
            self._job.voice.say(f"saved step {step} from memory, where a ckptd that was killed had left it")
            self._job.recovered[dump] = done.value
            manifest = done.value.manifest
            if self._job.settings.from_step is None:
                self._job.offer(Base(done.value.path, manifest))
            self._job.ledger.write(
                step=step,
                checkpoint=manifest.id,
                checkpoint_at=manifest.created,
                checkpoint_step=step,
                unsaved="",
            )
        else:
            self._job.voice.say(f"a copy in memory that an earlier ckptd left can't be saved: {done.error}")
        return True

    def has_finished(self) -> bool:
        """The program has come to its end while no ckptd looked after it. True once at most."""
        if self._orphan is not None:
            return False
        before, self._before = self._before, ""
        return before in states.LIVE and self._job.segments.finished(self._job.ledger.record.attempt)

    def adopt(self, base: Base) -> bool:
        """Look after the program that still runs, if there is one; it may have ended since it was found."""
        orphan, self._orphan = self._orphan, None
        ended = _open(orphan) if orphan is not None else None
        if orphan is None or ended is None:
            return False
        record = self._job.ledger.record
        # If that is wrong, the first step that it tells of puts it right.
        before, self._before = self._before, ""
        replaying = before in (states.NEW, states.STARTING, states.REPLAYING, states.CHECKING)
        resumed = base.path is None or not replaying
        attempt = Attempt(record.attempt, orphan.pid, base, reachable=True, adopted=True, resumed=resumed)
        self._job.attempt = attempt
        self._job.tree.adopt(orphan, f"CKPTD_ENDPOINT={self._job.place.endpoint}")
        self._watch(attempt, ended)
        self._job.ledger.enter(states.STARTING, pid=orphan.pid, started=orphan.started)
        self._job.voice.say(
            f"process {orphan.pid} of job {record.name} runs, though its ckptd was gone: looking after it again",
            "adopted", pid=orphan.pid,
        )  # fmt: skip
        self._job.news.tell("adopted", pid=orphan.pid)
        return True

    def _watch(self, attempt: Attempt, ended: int) -> None:
        def exited() -> None:
            self._job.loop.forget(ended)
            os.close(ended)
            if attempt.status is None:
                attempt.finished |= self._job.segments.finished(attempt.number)
                self._exited(attempt)

        self._job.loop.watch(ended, exited)


def _open(orphan: ProcessId) -> int | None:
    """A descriptor that shows the end of this very process; None if it has ended."""
    try:
        ended = os.pidfd_open(orphan.pid)
    except ProcessLookupError:
        return None
    if orphan.alive():  # the number may be another's by now
        return ended
    os.close(ended)
    return None

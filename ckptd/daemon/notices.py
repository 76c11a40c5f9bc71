"""What is done about notices: at once, as late as is safe, and what if one is withdrawn.

``--on-notice`` chooses among (ckptd.settings.ON_NOTICE):
    stay      save now, and go on
    leave     save now, and end with status 75
    late      save now, go on, save again as late as is safe, and end with status 75
    relaunch  save now, end, and start the program again at once
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ckptd.daemon.context import Context
from ckptd.daemon.dumps import Dumps
from ckptd.errors import CkptdError
from ckptd.notices.event import LEAVE, Health, Notice, make_room
from ckptd.protocol import DRILL
from ckptd.states import STOPPED

if TYPE_CHECKING:
    from ckptd.notices.watch import Watch

SHORTEST = 5.0
"""Seconds that a dump gets at least: a deadline that has passed may be a wrong clock's."""
MARGIN = 4.0
"""Seconds before the deadline at which all should be over, beside what was measured."""
SAFETY = 3.0
"""The last dump may take so many times as long as the one before."""
UNMEASURED = 12.0
"""Seconds that are kept for a dump before one has shown what it takes."""
NEAR = 2.0
"""Seconds by which two words for the same moment may differ."""
AGAIN = 1.0
"""Seconds behind a last dump that failed until the next."""
ALONE = 2.0
"""Seconds between looks at whether the daemon still watches for us."""


class Notices:
    """Notices that stand, and what follows from them."""

    def __init__(
        self,
        context: Context,
        dumps: Dumps,
        stop: Callable[[str, float | None], None],
        stay: Callable[[], None],
        sources: Callable[[], Watch | None],
    ) -> None:
        """``stop``: end the job (for which reason, by when); ``stay``: that is not wanted any more.

        ``sources``: begins to listen; not called as long as a daemon listens for us.
        """
        self._job, self._dumps, self._stop, self._stay = context, dumps, stop, stay
        self._sources = sources
        self._standing: dict[tuple[str, str], Notice] = {}
        self._how: dict[tuple[str, str], str] = {}
        self._watch: Watch | None = None
        self._minded_until = 0.0
        self._durable = 0.0
        """When the last checkpoint was."""
        self._upload_seconds = 0.0
        """From there until it was at the remote, of the last one."""
        context.news.listeners.append(self._on_news)

    # ---- where they come from -------------------------------------------------------------------

    def begin(self) -> None:
        """Listen, or wait for a daemon that does."""
        if self._job.settings.kept:
            self.minded(2 * ALONE)
        else:
            self._listen()

    def minded(self, seconds: float) -> None:
        """The daemon listens for this job, and says so again within ``seconds``."""
        self._minded_until = self._job.loop.now() + seconds
        if self._watch is not None and self._job.settings.kept:
            self._deafen()
        self._job.loop.after("minded", ALONE, self._look_for_daemon)

    def _look_for_daemon(self) -> None:
        if self._job.loop.now() < self._minded_until:
            self._job.loop.after("minded", ALONE, self._look_for_daemon)
        elif self._watch is None:
            self._job.voice.detail("no daemon minds this job: it listens for notices itself")
            self._listen()

    def _listen(self) -> None:
        self._watch = self._sources()
        if self._watch is not None:
            self._job.loop.watch(self._watch.fileno(), self._on_watch)

    def _deafen(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            self._job.loop.forget(watch.fileno())
            watch.close()

    def _on_watch(self) -> None:
        if self._watch is not None:
            for notice in self._watch.read():
                self.heard(notice)

    def health(self) -> list[Health]:
        """How the sources fare that are listened to here."""
        return self._watch.health() if self._watch is not None else []

    def standing(self) -> list[Notice]:
        """What was announced, and not withdrawn."""
        return list(self._standing.values())

    def close(self) -> None:
        """Stop listening. What the job has left for may begin now, if the user allows that to be said."""
        if self._watch is not None and self._job.settings.azure_ack and self._job.ledger.state == STOPPED:
            acknowledge(self._watch, self._standing.values())
        self._deafen()

    # ---- what follows ---------------------------------------------------------------------------

    def told(self, notice: Notice, how: str = "") -> None:
        """A notice by way of the socket. Raises UsageError: there are too many."""
        make_room(notice, self._standing)
        self.heard(notice, how)

    def heard(self, notice: Notice, how: str = "") -> None:
        """A notice, here or from the daemon; ``how`` overrides the settings."""
        key = (notice.source, notice.id)
        if notice.withdrawn:
            self._withdrawn(key, notice)
            return
        known = self._standing.get(key)
        if known is not None and _same(known, notice):
            return
        self._standing[key] = notice
        self._how[key] = how or self._how.get(key) or chosen(self._job.settings.on_notice, notice)
        self._job.news.tell("notice", source=notice.source, kind=notice.kind, id=notice.id, text=notice.text)
        self._job.voice.warn(
            f"notice: {notice.text}{self._left_text(notice)}", "notice",
            source=notice.source, kind=notice.kind, id=notice.id,
        )  # fmt: skip
        self._act(key, notice, again=known is not None)

    def _act(self, key: tuple[str, str], notice: Notice, again: bool) -> None:
        how = self._how[key]
        if how == "relaunch":
            self._relaunch(notice)
        elif how == "leave":
            self._leave()
        elif not again:
            # With a deadline so near that one dump is all there is time for, that is the last.
            if how == "stay" or not self._is_late():
                self._save()
            self.plan()
        else:
            self.plan()

    def _relaunch(self, notice: Notice) -> None:
        attempt = self._job.attempt
        if attempt is not None and attempt.hello and attempt.status is None and attempt.leave is None:
            attempt.notice = notice.text
            reason = DRILL if notice.source == DRILL else "notice"
            self._dumps.ask_to_leave(attempt, reason, notice.deadline)

    def _save(self) -> None:
        try:
            self._dumps.save_now("notice", self._saved)
        except CkptdError as error:
            self._saved({}, error)

    def _saved(self, facts: dict[str, Any], error: CkptdError | None) -> None:
        if error is not None:
            self._job.voice.say(f"could not save for the notice: {error}")
        if self._watch is not None and not self._deadlines():
            release(self._watch)  # whoever waits for us need not any more
        self.plan()

    def _on_news(self, name: str, at: float, facts: dict[str, Any]) -> None:
        """What a dump takes is known better, or there is somebody to ask at last."""
        if name == "durable":
            self._durable = at
        elif name == "uploaded" and self._durable:
            self._upload_seconds = at - self._durable
        if name in ("hello", "durable", "uploaded") and not self._job.stop.signal:
            self.plan()
        elif name == "unsaved" and facts["leave"] and self._deadlines():
            self._job.loop.after("notice", AGAIN, self.plan)

    def _withdrawn(self, key: tuple[str, str], notice: Notice) -> None:
        if self._standing.pop(key, None) is None:
            return
        left = self._how.pop(key, "") in ("late", "leave")
        self._job.news.tell("withdrawn", source=notice.source, id=notice.id)
        self._job.voice.say(
            f"notice withdrawn: {notice.text}", "withdrawn", source=notice.source, id=notice.id
        )
        if self._deadlines():
            self.plan()
        elif left:  # others have stopped nothing that could be taken back
            self._job.loop.cancel("notice")
            self._stay()

    def _deadlines(self) -> list[float | None]:
        """Of the notices for which the job has to leave."""
        return [
            notice.deadline for key, notice in self._standing.items() if self._how[key] in ("late", "leave")
        ]

    def deadline(self) -> float | None:
        """When the first of them ends the processes; None: not known, or there is none."""
        return min((each for each in self._deadlines() if each is not None), default=None)

    def _lead(self) -> float:
        """Seconds before the deadline at which the last dump is asked for."""
        cost, attempt = self._dumps.cost(), self._job.attempt
        waiting = 2 * attempt.step_seconds if attempt is not None else 0.0
        measured = cost is not None and (self._job.uploads is None or self._upload_seconds > 0)
        return (
            MARGIN + waiting + (SAFETY * ((cost or 0.0) + self._upload_seconds) if measured else UNMEASURED)
        )

    def _is_late(self) -> bool:
        deadline = self.deadline()
        return deadline is not None and deadline - self._lead() <= self._job.loop.now()

    def plan(self) -> None:
        """Settle when to leave, by what is known now of deadlines and of what a dump takes."""
        if not self._deadlines():
            return
        deadline = self.deadline()
        at_once = "leave" in self._how.values() or None in self._deadlines()  # None: it may be any moment
        if deadline is None or at_once or self._is_late():
            self._leave()
        else:
            self._job.loop.at("notice", deadline - self._lead(), self.plan)

    def _leave(self) -> None:
        self._job.loop.cancel("notice")
        text = next(
            (each.text for key, each in self._standing.items() if self._how[key] in ("late", "leave")),
            "a notice",
        )
        deadline = self.deadline()
        now = self._job.loop.now()
        if deadline is not None and deadline < now:
            deadline = None  # passed, and we are still here: the clock that gave it was wrong
        self._stop(text, None if deadline is None else max(deadline, now + SHORTEST))

    def _left_text(self, notice: Notice) -> str:
        if notice.deadline is None:
            return ""
        left = notice.deadline - self._job.loop.now()
        return f" ({left:.0f} s left)" if left >= 0 else " (its time has passed)"


def listen(names: str) -> Watch | None:
    """Begin to listen to the sources of ``--notices``; None where that is none. Raises UsageError."""
    # Imported here, so that a start doesn't wait for what few of them need.
    from ckptd.notices.choose import choose
    from ckptd.notices.machine import Files

    sources = choose(names, os.environ, Files())
    if not sources:
        return None
    from ckptd.notices.watch import Watch

    return Watch(sources)


def _same(known: Notice, notice: Notice) -> bool:
    """Whether there is nothing new in it: the moment is told by clocks, and not to the second."""
    if None in (known.deadline, notice.deadline):
        near = known.deadline == notice.deadline
    else:
        near = abs((known.deadline or 0.0) - (notice.deadline or 0.0)) < NEAR
    return near and (known.kind, known.text) == (notice.kind, notice.text)


def release(watch: Watch) -> None:
    """Let go on what sources hold up until we are done (logind's shutdown)."""
    for source in watch.sources:
        let_go = getattr(source, "release", None)
        if let_go is not None:
            let_go()


def acknowledge(watch: Watch, notices: Iterable[Notice]) -> None:
    """Let those begin whose source can be told to: for all machines that they are for."""
    for notice in notices:
        for source in watch.sources:
            tell = getattr(source, "acknowledge", None)
            if tell is not None and source.name == notice.source and notice.kind == LEAVE:
                tell(notice.id)


def chosen(setting: str, notice: Notice) -> str:
    """What to do about a notice where the user said 'auto': leave late what ends, stay for all else."""
    if setting != "auto":
        return setting if notice.kind == LEAVE else "stay"
    return "late" if notice.kind == LEAVE else "stay"

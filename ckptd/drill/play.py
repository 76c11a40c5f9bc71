"""Plays a notice to a running job by its ckptd's socket, and hears from it what follows."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import psutil

from ckptd import control, states
from ckptd.client import PATIENCE, Client, new_ask
from ckptd.daemon.processes import process_id
from ckptd.drill.rehearsal import Rehearsal
from ckptd.errors import CkptdError, NotDrilledError
from ckptd.notices.event import LEAVE
from ckptd.protocol import DRILL, DRILL_SPARE

LOOK = 0.5
"""Seconds between looks whether the job's ckptd lives."""
ASKED = 10.0
"""Seconds in which a job that is told to leave is asked for a dump."""
OVER = "over"


@dataclass(frozen=True)
class Heard:
    """One of the news of a job."""

    name: str
    at: float
    """Monotonic seconds."""
    facts: dict[str, Any]


Show = Callable[[Heard], None]


def refuse(facts: dict[str, Any], leave: bool) -> None:
    """Say why a job can't be drilled as it stands (``facts`` as it answers to Look). Raises NotDrilledError."""
    name, state = facts.get("name"), facts.get("state")
    if facts.get("stopping") or state in (states.DUMPING, states.SAVING, states.LEAVING, states.ENDING):
        raise NotDrilledError(f"job {name} is leaving already ({state}): drill it when it trains again")
    if state == states.REPLAYING:
        raise NotDrilledError(
            f"job {name} is on its way back to its last checkpoint: drill it when it trains again"
        )
    if state != states.RUNNING or facts.get("agent") is None:
        note = facts.get("note") or "its program has not begun to train"
        raise NotDrilledError(f"job {name} can't be saved, so there is nothing to drill: {note}")
    real = [str(notice.get("text")) for notice in facts.get("standing") or [] if notice.get("kind") == LEAVE]
    if real:
        raise NotDrilledError(f"job {name} has a real notice ({real[0]}): this is no time for a drill")
    if leave and facts.get("on_notice") == "stay":
        raise NotDrilledError(f"job {name} was started with --on-notice stay: it leaves on no notice")


class Drill:
    """One notice to one job."""

    def __init__(self, client: Client, facts: dict[str, Any], rehearsal: Rehearsal, show: Show) -> None:
        """``facts``: as the job answers to Look; ``show``: told of each of the news as it comes."""
        self._client, self._facts, self._rehearsal, self._show = client, facts, rehearsal, show
        try:
            self._ckptd = process_id(int(facts["supervisor"]))
        except psutil.NoSuchProcess:
            raise NotDrilledError(
                f"job {facts.get('name')} has just ended: there is nothing to drill"
            ) from None
        self._remote = bool((facts.get("extra") or {}).get("remote"))
        self._id = new_ask()
        self.begun = 0.0
        """When the notice was played, in monotonic seconds."""
        self.heard: list[Heard] = []

    def play(self) -> list[Heard]:
        """All that followed. Raises NotDrilledError: it did not come to an end."""
        self._client.send(control.Follow(new_ask()))
        # Answered behind it: what comes from here on is heard, however quickly a signal is.
        self._client.ask(control.Look(new_ask()), PATIENCE)
        self.begun = time.monotonic()
        over = False
        try:
            self._send()
            for heard in self._follow():
                self.heard.append(heard)
                self._show(heard)
                over = heard.name == OVER
                if over or self._is_done():
                    break
        finally:
            if not over and not self._rehearsal.by_signal and self._ckptd.alive():
                self._withdraw()
        if over and self._rehearsal.leave:
            self._see_off()
        return self.heard

    # ---- the notice -----------------------------------------------------------------------------

    def _send(self) -> None:
        if not self._rehearsal.by_signal:
            self._client.send(self._tell())
            return
        # To the program, which is then started again; to its ckptd, which then ends too.
        whom = self._facts["supervisor"] if self._rehearsal.leave else self._facts["agent"]
        try:
            os.kill(int(whom), signal.SIGTERM)
        except ProcessLookupError:
            raise NotDrilledError(f"process {whom} has just ended: there is nothing to drill") from None

    def _tell(self) -> control.Tell:
        # To the end it is played as the job was told to; else the job is to go on.
        how = "relaunch"
        if self._rehearsal.leave:
            how = "leave" if self._facts.get("on_notice") == "relaunch" else ""
        text = f"drill: {self._rehearsal.title}, {self._rehearsal.told:g} s"
        return control.Tell(
            new_ask(), DRILL, LEAVE, self._id, self.begun + self._rehearsal.told, text, on_notice=how
        )

    def _withdraw(self) -> None:
        withdrawn = replace(self._tell(), text=f"the drill ({self._rehearsal.title}) is over", withdrawn=True)
        try:
            self._client.ask(withdrawn, PATIENCE)
        except CkptdError:
            return  # its ckptd has ended meanwhile: nothing stands any more

    # ---- what follows ---------------------------------------------------------------------------

    def _follow(self) -> Iterator[Heard]:
        while True:
            for message in self._client.hear(LOOK):
                if isinstance(message, control.News):
                    yield Heard(message.name, message.at, message.facts)
                elif isinstance(message, control.Reply) and message.status:
                    raise NotDrilledError(message.text)
            self._look()
            if self._waits_in_vain():
                return

    def _look(self) -> None:
        """Raises NotDrilledError: there is nothing to wait for."""
        if not self._ckptd.alive():
            raise NotDrilledError(
                "the job's ckptd has died in the middle of the drill: ckptd status shows the job"
            )
        waited = time.monotonic() - self.begun
        if waited > ASKED and not self._rehearsal.leave and not self._has("asked", leave=True):
            raise NotDrilledError(
                "the job was not asked to leave: it may have begun to, or ended, at that moment"
            )

    def _waits_in_vain(self) -> bool:
        """All is over but the upload, which doesn't come."""
        late = time.monotonic() - self.begun > self._rehearsal.deadline + DRILL_SPARE
        return late and self._has("stepping", after="spawned")

    def _is_done(self) -> bool:
        if self._has("unsaved", leave=True):
            return True
        if self._rehearsal.leave:
            return False
        back = self._has("stepping", after="spawned")
        return back and (not self._remote or self._is_uploaded())

    def _is_uploaded(self) -> bool:
        copied = [heard for heard in self.heard if heard.name == "copied" and heard.facts.get("leave")]
        step = copied[-1].facts.get("step") if copied else None
        return any(
            heard.name == "uploaded" and step is not None and int(heard.facts.get("step") or -1) >= step
            for heard in self.heard
        )

    def _has(self, name: str, after: str = "", **facts: Any) -> bool:
        names = [heard.name for heard in self.heard]
        begin = names.index(after) + 1 if after in names else 0 if not after else len(names)
        return any(
            heard.name == name and all(heard.facts.get(key) == value for key, value in facts.items())
            for heard in self.heard[begin:]
        )

    def _see_off(self) -> None:
        """The job is over: what its ckptd still does, uploads first of all, is part of it."""
        while self._ckptd.alive():
            time.sleep(LOOK / 10)
        self.heard.append(Heard("gone", time.monotonic(), {}))

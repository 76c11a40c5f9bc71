"""A notice, and what a source of notices is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event, Lock
from typing import Protocol

from ckptd.errors import UsageError

LEAVE = "leave"
"""The machine or the job goes away."""
PAUSE = "pause"
"""The machine is frozen for a while, or moved with all that runs on it; what runs now should run on behind it."""
ADVICE = "advice"
"""It may go away before long: save now, and go on."""
KINDS = (LEAVE, PAUSE, ADVICE)
MOST = 64
"""Notices of a kind, by way of a socket, that stand at a time."""


class Unheard(Exception):
    """A source can't hear for now: a sentence that says why, and the way out. It stays inside ckptd.notices."""


@dataclass(frozen=True)
class Notice:
    """What a source has heard."""

    source: str
    """Name of the source: 'aws', 'gcp', 'azure', 'alibaba', 'slurm', 'file', 'logind', 'drill' or a plug-in's."""
    kind: str
    """One of KINDS."""
    id: str
    """The same as long as it is the same notice, so that it is acted upon once; unique within its source."""
    deadline: float | None
    """time.monotonic() seconds at which processes are ended; None where the source doesn't say.

    A wall clock may jump, and a virtual machine's is often wrong: sources convert once, where possible by the
    clock of the server that gave the time (its Date header).
    """
    text: str
    """For people, as the tail of 'notice: ...': 'AWS terminates this spot instance at 17:11:44 UTC'."""
    withdrawn: bool = False
    """What was told under this id does not happen, or is over."""


def make_room(notice: Notice, standing: Mapping[tuple[str, str], Notice]) -> None:
    """See whether one more can be taken from whoever has a socket. Raises UsageError."""
    new = not notice.withdrawn and (notice.source, notice.id) not in standing
    if new and sum(each.kind == notice.kind for each in standing.values()) >= MOST:
        raise UsageError(f"{MOST} notices of this kind stand already: one more changes nothing")


@dataclass(frozen=True)
class Health:
    """How a source fares."""

    source: str
    state: str
    """'ok': it answers. 'starting': it has not answered yet. 'trouble': it doesn't, and is asked again."""
    text: str
    """What is wrong and the way out; '' where nothing is."""
    answered: float | None
    """Unix seconds of the last good answer."""


class Over(Event):
    """Set when sources are to end. A source that waits for descriptors can wait for this one too."""

    def __init__(self) -> None:
        super().__init__()
        self._end, self._other = os.pipe()
        self._guard = Lock()
        self._shut = False

    def fileno(self) -> int:
        """A descriptor that is readable from the moment it is over."""
        return self._end

    def set(self) -> None:
        """It is over."""
        with self._guard:
            super().set()
            if not self._shut:
                self._shut = True
                os.close(self._other)

    def close(self) -> None:
        """Let the descriptor go; only when nobody waits for it any more."""
        self.set()
        with self._guard:
            if self._end >= 0:
                os.close(self._end)
                self._end = -1


class Ears(Protocol):
    """Where a source tells what it hears. All of it may be called from any thread."""

    def tell(self, notice: Notice) -> None:
        """A notice, or one withdrawn; one with an id already told, and nothing new in it, is ignored.

        Raises ValueError for what is no notice.
        """

    def well(self) -> None:
        """There was a good answer."""

    def trouble(self, text: str) -> None:
        """There was none; one sentence."""


class Source(Protocol):
    """One way in which notices come. ``watch`` runs in a thread of its own, and may block there."""

    name: str

    def watch(self, ears: Ears, over: Over) -> None:
        """Listen until ``over`` is set, which should be looked at each second.

        May raise: what it says is shown as the source's health, and it is called again within a second.
        """


Maker = Callable[[str], Source]
"""What a plug-in (entry point group ``ckptd.notices``) is: called with what follows its name and a colon."""

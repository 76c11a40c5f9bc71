"""One start of the program, from its spawn to its end: what its agent was asked for and has said."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ckptd.daemon.policy import Ending
from ckptd.daemon.resume import Base
from ckptd.protocol import DRILL, DRILL_SPARE, Dump

PERIODIC_SECONDS = 60.0
"""A periodic dump may wait this long for its safe point (or for --grace, where that is longer)."""


REMEMBERED = 15
"""Dumps that were answered."""


@dataclass(frozen=True)
class Request:
    """A dump that the agent was asked for."""

    dump: str
    reason: str
    deadline: float
    leave: bool

    @property
    def until(self) -> float:
        """When what is left of the process is ended."""
        return self.deadline + (DRILL_SPARE if self.reason == DRILL else 0.0)

    def message(self) -> Dump:
        """As it goes to the agent."""
        return Dump(dump=self.dump, reason=self.reason, deadline=self.deadline, leave=self.leave)


@dataclass
class Attempt:
    """The present start of the program."""

    number: int
    pid: int
    base: Base
    reachable: bool
    peer: bytes | None = None
    """The agent's address on the ROUTER."""
    agent_pid: int = 0
    hello: bool = False
    resumed: bool = False
    notice: str = ""
    """A notice to this process that still stands: the name of a signal, or what another source said."""
    refused: str = ""
    damaged: bool = False
    """The checkpoint that it was to resume from is not what was written."""
    requests: dict[str, Request] = field(default_factory=dict)
    """Asked for, not yet answered, by dump id."""
    answered: list[str] = field(default_factory=list)
    """The last that were: an answer may come twice, after a reconnection."""
    leave: Request | None = None
    """The request to save and to leave that stands: not failed so far."""
    following: bool = False
    """The writer follows a copy that is not complete: one at a time."""
    writing: int = 0
    """Segments that the writer has."""
    saved: bool = False
    """A checkpoint whose copy arrived after that request is durable."""
    owed: bool = False
    """A periodic dump is due, but couldn't be asked for yet."""
    killed: bool = False
    finished: bool = False
    """The program has come to its end, and said so."""
    status: int | None = None
    """How the main process ended."""
    rival: int = 0
    """Another process of the job's that trains, beside the one that can be saved."""
    adopted: bool = False
    """It was started by a ckptd that is gone: it is not our child, and how it ends is not known."""
    step_seconds: float = 0.0
    """What a step takes, by the agent's last word."""
    said: int = 0
    """Sentences of the agent's."""
    _count: int = 0

    @property
    def resuming(self) -> bool:
        """It has a checkpoint to resume from and hasn't yet."""
        return self.base.path is not None and not self.resumed

    def ask(self, reason: str, deadline: float, leave: bool) -> Dump:
        """A new request, as a message."""
        self._count += 1
        dump = f"{self._count}-{os.urandom(3).hex()}"
        request = self.requests[dump] = Request(dump, reason, deadline, leave)
        if leave:
            self.leave = request
        return request.message()

    def answer(self, dump: str) -> Request | None:
        """The request that is answered; those before it are answered with it. None: never asked for."""
        request = self.requests.pop(dump, None)
        if request is not None:
            self.answered = [*self.answered[-REMEMBERED:], dump]
            order = int(dump.partition("-")[0])
            for other in [key for key in self.requests if int(key.partition("-")[0]) < order]:
                del self.requests[other]
        return request

    def stay(self) -> None:
        """The request to leave has failed, and with it the notice: the program goes on."""
        self.leave = None
        self.notice = ""
        self.saved = False

    def forget_overdue(self, now: float) -> None:
        """Drop periodic requests that were never answered."""
        for key, request in list(self.requests.items()):
            if not request.leave and now > request.deadline + PERIODIC_SECONDS:
                del self.requests[key]

    def may_ask_periodic(self) -> bool:
        """Whether a periodic dump can be asked for now: one at a time, and none while it replays."""
        free = not self.requests and not self.writing and self.leave is None and self.status is None
        return self.peer is not None and not self.resuming and not self.finished and free

    def ending(self, *, stopping: bool, passed_on: bool, has_checkpoint: bool, progressed: bool) -> Ending:
        """What the relaunch policy looks at, once the process is gone."""
        return Ending(
            status=-9 if self.status is None else 0 if self.adopted and self.finished else self.status,
            reachable=self.reachable,
            hello=self.hello,
            resuming=self.resuming,
            refused=self.refused,
            damaged=self.damaged,
            noticed=bool(self.notice),
            stopping=stopping,
            passed_on=passed_on,
            saved=self.saved,
            killed=self.killed,
            finished=self.finished,
            unknown=self.adopted and not self.killed,
            has_checkpoint=has_checkpoint,
            progressed=progressed,
        )

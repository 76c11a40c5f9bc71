"""One job as the daemon sees it: its order, the ckptd that looks after it, and what is to happen next."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zmq

from ckptd import control, protocol, states
from ckptd.client import new_ask
from ckptd.daemon.table import JobRow, row_of
from ckptd.errors import CkptdError, ProtocolError
from ckptd.notices.event import Notice
from ckptd.store.layout import JobFolder

FIRST_DELAY = 0.2
"""Seconds until a ckptd that died is started again; doubles each time, up to MAX_DELAY."""
MAX_DELAY = 30.0
STEADY = 60.0
"""A ckptd that has lived so many seconds doesn't count as one that dies at once."""


@dataclass
class KeptJob:
    """A job for which there is an order."""

    folder: JobFolder
    keeper: int | None = None
    """Process id of its ckptd, while that runs."""
    watched: int = -1
    """The pidfd of its ckptd."""
    since: float = 0.0
    """When that was found or started, by the loop's clock."""
    deaths: int = 0
    """Of its ckptd, one behind the other."""
    link: Link | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """What its ckptd told of itself last."""
    told: set[tuple[str, str, float | None, bool]] = field(default_factory=set)
    """Notices that were handed on."""
    failure: CkptdError | None = None
    """Why its ckptd could not be started."""
    waiting: list[Callable[[CkptdError | None], None]] = field(default_factory=list)
    """Who asked for its start, and waits for it."""

    @property
    def id(self) -> str:
        """The job's id."""
        return self.folder.id

    def row(self) -> JobRow:
        """The job as ``ckptd ps`` has it."""
        return row_of(self.folder)

    def endpoint(self) -> str:
        """Where its ckptd listens; '' if that isn't known yet."""
        try:
            record = self.folder.load()
        except CkptdError:
            return ""
        listens = record.extra.get("listens")
        if not isinstance(listens, dict) or self.keeper is None or listens.get("pid") != self.keeper:
            return ""
        return str(listens.get("at", ""))

    def died(self, now: float) -> float:
        """Its ckptd was killed: seconds to wait before the next."""
        self.deaths = 1 if now - self.since > STEADY else self.deaths + 1
        return float(min(FIRST_DELAY * 2 ** (self.deaths - 1), MAX_DELAY))

    def release(self) -> None:
        """Its ckptd is gone."""
        if self.watched >= 0:
            os.close(self.watched)
        if self.link is not None:
            self.link.close()
        self.keeper, self.watched, self.link = None, -1, None
        self.facts, self.told = {}, set()

    def hand_on(self, notice: Notice) -> None:
        """Tell its ckptd of a notice, once."""
        key = (notice.source, notice.id, notice.deadline, notice.withdrawn)
        if self.link is None or key in self.told:
            return
        # Of a notice only the last word is to be remembered.
        self.told = {each for each in self.told if each[:2] != key[:2]} | {key}
        self.link.send(
            control.Tell(
                new_ask(),
                notice.source,
                notice.kind,
                notice.id,
                notice.deadline,
                notice.text,
                notice.withdrawn,
            )
        )


class Link:
    """The daemon's line to the ckptd of a job; what is sent while that is busy or gone waits, up to ROOM of it."""

    ROOM = 100

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.endpoint = endpoint
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 0), (zmq.SNDHWM, self.ROOM), (zmq.RCVHWM, self.ROOM), (zmq.RECONNECT_IVL, 100),
            (zmq.MAXMSGSIZE, protocol.MAX_BYTES),
        ):  # fmt: skip
            self.socket.setsockopt(option, value)
        self.socket.connect(endpoint)

    def send(self, request: control.Request) -> None:
        """Without waiting; what there is no room for is dropped."""
        try:
            self.socket.send(protocol.pack(request), zmq.NOBLOCK)
        except zmq.Again:
            return

    def receive(self) -> list[protocol.Message]:
        """What has come."""
        found: list[protocol.Message] = []
        while len(found) < self.ROOM:
            try:
                found.append(protocol.unpack(self.socket.recv(zmq.NOBLOCK)))
            except zmq.Again:
                break
            except ProtocolError:
                continue
        return found

    def close(self) -> None:
        """Close it."""
        self.socket.close(0)


def settled(row: JobRow) -> bool:
    """Whether a job has come to an end of its own: nothing is started for it any more."""
    return row.state in (states.FINISHED, states.FAILED, states.REFUSED)

"""What a job's ckptd, and the daemon, say of a job as it runs: beside what its record says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckptd import control, states
from ckptd.cli.one import reach_job
from ckptd.client import Client, new_ask
from ckptd.daemon.table import JobRow
from ckptd.errors import CkptdError
from ckptd.host.order import path_of
from ckptd.host.place import reach_daemon
from ckptd.store.layout import Store
from ckptd.store.selection import Job

PATIENCE = 0.4
"""Seconds for each of the two to answer: whoever lives does so at once."""


@dataclass(frozen=True)
class Live:
    """What was answered."""

    answered: bool = False
    """The job's ckptd has."""
    agent: int | None = None
    """Process id of the program in which the agent is."""
    stopping: str = ""
    """Why the job is leaving; '' if it isn't."""
    by_daemon: bool = False
    """The daemon listens in the job's place."""
    notices: list[dict[str, Any]] = field(default_factory=list)
    """Sources of notices, as ckptd.notices.event.Health."""
    standing: list[dict[str, Any]] = field(default_factory=list)
    """Notices that stand, as ckptd.notices.event.Notice."""


def ask_live(store: Store, job: Job) -> Live:
    """Ask both; whoever doesn't answer in PATIENCE is left out."""
    facts = _facts(lambda: reach_job(job))
    daemon = _facts(lambda: reach_daemon(store)) if facts and path_of(job.folder).exists() else {}
    known = (daemon.get("jobs") or {}).get(job.folder.id)
    # Where the daemon minds the job, that listens to nothing itself.
    by_daemon = known is not None and not facts.get("notices")
    stopping = facts.get("stopping")
    return Live(
        answered=bool(facts),
        agent=facts.get("agent"),
        stopping=stopping if isinstance(stopping, str) else "a signal" if stopping else "",
        by_daemon=by_daemon,
        notices=list((daemon if by_daemon else facts).get("notices") or []),
        standing=list(facts.get("standing") or []),
    )


def _facts(reach: Callable[[], Client]) -> dict[str, Any]:
    try:
        reached = reach()
        with reached:
            return reached.ask(control.Look(new_ask()), PATIENCE)
    except CkptdError:
        return {}  # the record has to do


def live_lines(row: JobRow, live: Live) -> list[tuple[str, str]]:
    """What is shown of it: names and texts."""
    if not live.answered:
        silent = row.state in states.LIVE
        return [("answers", "nobody: this is what the job's record says")] if silent else []
    found = []
    if live.stopping:
        found.append(("stopping", live.stopping))
    found.append(("agent", f"in process {live.agent}" if live.agent is not None else "not there"))
    whose = " (by the daemon)" if live.by_daemon else ""
    if not live.notices:
        found.append(("notices", "signals only"))
    for source in live.notices:
        trouble = f": {source.get('text')}" if source.get("text") else ""
        found.append(("notices", f"{source.get('source')} {source.get('state')}{whose}{trouble}"))
    found += [("notice", _words(notice)) for notice in live.standing]
    return found


def _words(notice: Mapping[str, Any]) -> str:
    deadline = notice.get("deadline")
    if not isinstance(deadline, float | int):
        return f"{notice.get('text')}"
    left = deadline - time.monotonic()
    return f"{notice.get('text')} ({f'{left:.0f} s left' if left >= 0 else 'its time has passed'})"

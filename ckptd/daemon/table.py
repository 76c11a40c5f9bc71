"""Jobs on disk, as ``ckptd ps`` shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ckptd import states
from ckptd.errors import CkptdError
from ckptd.store.environment import masked
from ckptd.store.job import JobRecord
from ckptd.store.layout import JobFolder, Store
from ckptd.store.lock import holder

_OLD_NAMES = {"finished": states.FINISHED, "failed": states.FAILED}


@dataclass(frozen=True)
class JobRow:
    """One job. Times are Unix seconds."""

    id: str
    name: str
    state: str
    """As in ckptd.states; '' if the record can't be read."""
    step: int | None
    pid: int | None
    """Of the program's main process, while it runs."""
    supervisor: int | None
    """Process id of its ckptd, while that runs."""
    attempt: int
    checkpoint: str | None
    """Id of the newest checkpoint."""
    checkpoint_at: float | None
    created: float | None
    updated: float | None
    exit_status: int | None
    why: str
    """How the last attempt ended, or what is wrong with the record."""
    argv: list[str]
    """Without what looks like a secret: listings are read over shoulders, and pasted into reports."""
    cwd: str
    note: str = ""
    """What the user must know of the job as it runs: why it can't be checkpointed, and the way out."""


def read_table(store: Store) -> list[JobRow]:
    """All jobs of a store, the latest to change last. Raises NoStoreError."""
    rows = [row_of(folder) for folder in store.jobs()]
    return sorted(rows, key=lambda row: (row.updated or 0.0, row.id))


def row_of(folder: JobFolder) -> JobRow:
    """One job of the table."""
    owner = holder(folder)
    supervisor = owner.pid if owner is not None else None
    try:
        record = folder.load()
    except CkptdError as error:
        return JobRow(
            folder.id, "", "", None, None, supervisor, 0, None, None, None, None, None, str(error), [], ""
        )
    extra = record.extra
    state = shown_state(record, running=owner is not None)
    return JobRow(
        id=record.id,
        name=record.name,
        state=state,
        step=_number(extra.get("step")),
        pid=_number(extra.get("pid")) if state in states.WITH_PROCESS else None,
        supervisor=supervisor,
        attempt=record.attempt,
        checkpoint=extra.get("checkpoint") if isinstance(extra.get("checkpoint"), str) else None,
        checkpoint_at=_seconds(extra.get("checkpoint_at")),
        created=record.created,
        updated=record.updated,
        exit_status=record.exit_status,
        why=record.why,
        argv=masked(record.argv),
        cwd=record.cwd,
        note=_note(extra),
    )


def shown_state(record: JobRecord, running: bool) -> str:
    """The state to show: what the record says, unless that can't be, for nobody holds the job."""
    said = str(record.extra.get("state", ""))
    state = said if said in states.ALL else _OLD_NAMES.get(record.state, states.STOPPED)
    return states.LOST if state in states.LIVE and not running else state


def _note(extra: dict[str, Any]) -> str:
    """The agent's own word; else, why the last dump failed, until one is saved."""
    unsaved = extra.get("unsaved")
    return str(extra.get("note") or (f"the last dump could not be saved: {unsaved}" if unsaved else ""))


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

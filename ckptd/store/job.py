"""What the store knows of a job: job.json. See docs/format.md."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ckptd.errors import DamagedError, RefusedError
from ckptd.store import disk
from ckptd.store.manifest import ID, dump_json, load_json, match_fields, plain

FORMAT = 1
"""Of job.json: it has not changed since the store's first version."""
MAX_BYTES = 4 << 20
STATES = ("unfinished", "finished", "failed")


@dataclass(frozen=True)
class JobRecord:
    """One job. Change it with ``dataclasses.replace`` and save it."""

    id: str
    """8 hex digits."""
    name: str
    argv: list[str]
    cwd: str
    created: float
    """Unix seconds."""
    named: bool = False
    """The name was given with --name."""
    hashseed: str = ""
    """The PYTHONHASHSEED that ckptd drew for the job; '' if the user set one."""
    state: str = "unfinished"
    """One of STATES. An unfinished job is resumed by the same command."""
    attempt: int = 0
    """How many times the program has been started."""
    exit_status: int | None = None
    """Of the last attempt that ended: 0 to 255, or minus the signal's number."""
    why: str = ""
    """One sentence on how the last attempt ended."""
    updated: float = 0.0
    """Unix seconds."""
    extra: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def save(path: Path, record: JobRecord) -> None:
    """Write job.json as a whole. Raises OSError, and ValueError for a record that can't be read back."""
    fields = {**asdict(record), "extra": plain(record.extra)}
    _check(fields)
    disk.replace_file(path, dump_json(fields))


def load(path: Path) -> JobRecord:
    """Read job.json; raises DamagedError (also if it is not there) or RefusedError (newer format)."""
    try:
        fields = load_json(disk.read_file(path, MAX_BYTES))
        version = fields.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise RefusedError(f"{path} is of format {version}, this ckptd reads {FORMAT}: update ckptd")
        _check(fields)
    except OSError as error:
        raise DamagedError(f"{path} can't be read: {disk.reason(error)}") from error
    except ValueError as error:
        raise DamagedError(f"{path} is damaged ({error}); its checkpoints are listed all the same") from error
    return JobRecord(**fields)


def _check(fields: dict[str, Any]) -> None:
    status = fields.get("exit_status", "")
    if status is not None and (not isinstance(status, int) or isinstance(status, bool)):
        raise ValueError("exit_status is not a number")
    match_fields(
        {key: value for key, value in fields.items() if key != "exit_status"},
        {"format": int, "id": str, "name": str, "argv": list, "cwd": str, "created": float, "named": bool,
         "hashseed": str, "state": str, "attempt": int, "why": str, "updated": float, "extra": dict},
    )  # fmt: skip
    if not ID.fullmatch(fields["id"]):
        raise ValueError("id is not 8 hex digits")
    if fields["state"] not in STATES:
        raise ValueError(f"state {fields['state'][:40]!r} is none of {', '.join(STATES)}")
    if not all(isinstance(word, str) for word in fields["argv"]):
        raise ValueError("argv is not a list of strings")

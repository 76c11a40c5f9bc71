"""What the store knows of a job: job.json. See docs/format.md."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ckptd.errors import DamagedError, RefusedError
from ckptd.store import disk
from ckptd.store.manifest import ID, dump_json, load_json, match_fields, plain

FORMAT = 2
"""Of job.json. One of version 1 has no hash."""
MAX_BYTES = 4 << 20
STATES = ("unfinished", "finished", "failed")
# As in a manifest: at the start of a line and after one space, this can only be a key of the outermost map.
_HASH = re.compile(rb'(?<=\n "hash": "blake2b_128:)[0-9a-f]{32}(?=",?\n)')
_NO_HASH = "blake2b_128:" + "0" * 32


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
    disk.replace_file(path, encode(record))


def encode(record: JobRecord) -> bytes:
    """The text of job.json, its own hash in it. Raises ValueError."""
    fields = {**asdict(record), "extra": plain(record.extra), "format": FORMAT}
    _check(fields)
    data = dump_json({**fields, "hash": _NO_HASH})
    return _HASH.sub(_digest(data), data, count=1)


def load(path: Path) -> JobRecord:
    """Read job.json; raises DamagedError (also if it is not there) or RefusedError (newer format)."""
    try:
        data = disk.read_file(path, MAX_BYTES)
    except OSError as error:
        raise DamagedError(f"{path} can't be read: {disk.reason(error)}") from error
    return decode(data, str(path))


def decode(data: bytes, where: str) -> JobRecord:
    """What ``encode`` made; raises DamagedError if a byte of it is another, or RefusedError (newer format)."""
    try:
        found = _HASH.findall(data)
        whole = len(found) == 1 and _digest(_HASH.sub(b"0" * 32, data)) == found[0]
        if found and not whole:
            raise ValueError("it doesn't match its own hash")
        fields = load_json(data)
        version = fields.get("format")
        if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT and whole:
            raise RefusedError(f"{where} is of format {version}, this ckptd reads {FORMAT}: update ckptd")
        if whole:
            del fields["hash"]
        elif version != 1:
            raise ValueError("its own hash is not in it")
        _check(fields)
    except (ValueError, KeyError) as error:
        raise DamagedError(
            f"{where} is damaged ({error}); its checkpoints are not, and are listed all the same: move it away, and "
            "the job's command goes on from them"
        ) from error
    return JobRecord(**{**fields, "format": FORMAT})


def _digest(blank: bytes) -> bytes:
    return hashlib.blake2b(blank, digest_size=16).hexdigest().encode()


def _check(fields: dict[str, Any]) -> None:
    status = fields.get("exit_status", "")
    if status is not None and (not isinstance(status, int) or isinstance(status, bool)):
        raise ValueError("exit_status is not a number")
    match_fields(
        {key: value for key, value in fields.items() if key != "exit_status"},
        {"format": int, "id": str, "name": str, "argv": list, "cwd": str, "created": float, "named": bool,
         "hashseed": str, "state": str, "attempt": int, "why": str, "updated": float, "extra": dict},
    )  # fmt: skip
    if not 1 <= fields["format"] <= FORMAT:
        raise ValueError("its format is none")
    if not ID.fullmatch(fields["id"]):
        raise ValueError("id is not 8 hex digits")
    if fields["state"] not in STATES:
        raise ValueError(f"state {fields['state'][:40]!r} is none of {', '.join(STATES)}")
    if not all(isinstance(word, str) for word in fields["argv"]):
        raise ValueError("argv is not a list of strings")

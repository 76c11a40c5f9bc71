"""How a line of ckptd's own looks: for people, as JSON, and for systemd's journal with a field for each fact.

The journal's protocol: systemd.io/JOURNAL_NATIVE_PROTOCOL, one datagram an entry, NAME=VALUE a line. That stderr goes
to the journal is told by JOURNAL_STREAM, device and inode of the descriptor: systemd.exec(5).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

PLAIN, STAMPED, JSON, JOURNAL = "plain", "stamped", "json", "journal"
INFO, WARNING, DEBUG, ERROR = "info", "warning", "debug", "error"
_PRIORITIES = {ERROR: 3, WARNING: 4, INFO: 6, DEBUG: 7}
"""As syslog(3) has them."""
MAX_BYTES = 4000
"""Of a line; a pipe that is reported writable takes this much without blocking (PIPE_BUF is 4096)."""
_CUT = 1500
"""Letters of a text in JSON, where a line that is cut is no JSON."""
SOCKET = "/run/systemd/journal/socket"


@dataclass(frozen=True)
class Entry:
    """One thing that is said."""

    at: float
    """Unix seconds."""
    level: str
    text: str
    event: str = ""
    """One of the names of docs/protocol.md; '' where it is just said."""
    fields: Mapping[str, Any] = field(default_factory=dict)


def choose_form(log_format: str, fd: int, env: Mapping[str, str], *, kept: bool) -> str:
    """The form for what is said on a descriptor. ``kept``: it is read later, and so needs the time."""
    if log_format == "json":
        return JSON
    if is_journal(fd, env):
        return JOURNAL
    return STAMPED if kept else PLAIN


def is_journal(fd: int, env: Mapping[str, str]) -> bool:
    """Whether a descriptor goes to systemd's journal."""
    try:
        device, inode = map(int, env.get("JOURNAL_STREAM", "").split(":"))
        status = os.fstat(fd)
    except (ValueError, OSError):
        return False
    return (status.st_dev, status.st_ino) == (device, inode)


def clean(text: str) -> str:
    """On one line: names and sentences come from elsewhere too, and a terminal obeys control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def line(form: str, entry: Entry, about: Mapping[str, str]) -> bytes:
    """One line of at most MAX_BYTES. ``about``: job and name, where they are known."""
    if form == JSON:
        return _json_line(entry, about)
    before = ""
    if form == STAMPED:
        before = f"{_iso(entry.at)} "
    elif form == JOURNAL:  # without its socket: the priority of a line by its prefix, see sd-daemon(3)
        before = f"<{_PRIORITIES[entry.level]}>"
    return f"{before}ckptd: {clean(entry.text)}".encode("utf-8", "replace")[: MAX_BYTES - 1] + b"\n"


def _json_line(entry: Entry, about: Mapping[str, str]) -> bytes:
    values: dict[str, Any] = {
        "time": _iso(entry.at),
        "level": entry.level,
        "job": about.get("job") or entry.fields.get("job", ""),
        "name": about.get("name") or entry.fields.get("name", ""),
        "event": entry.event or "said",
        "text": clean(entry.text)[:_CUT],
        "fields": dict(entry.fields),
    }
    data = json.dumps(values, default=str).encode()
    if len(data) >= MAX_BYTES:
        data = json.dumps({**values, "text": values["text"][: _CUT // 6], "fields": {}}).encode()
    return data + b"\n"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text_of(said: str) -> str:
    """The sentence of a line that ``line`` has made; '' if it is none."""
    if said.startswith("{"):
        try:
            return str(json.loads(said).get("text", ""))
        except ValueError:
            return ""  # the beginning is missing
    return said.partition("ckptd: ")[2].rstrip("\n")


def datagram(entry: Entry, about: Mapping[str, str]) -> bytes:
    """An entry of the journal, its fields and all."""
    values: dict[str, Any] = {
        "MESSAGE": entry.text, "PRIORITY": _PRIORITIES[entry.level], "SYSLOG_IDENTIFIER": "ckptd",
        "CKPTD_EVENT": entry.event or "said",
    }  # fmt: skip
    for name, value in {**entry.fields, **about}.items():
        values[f"CKPTD_{name.upper()}"] = value
    lines = [f"{name}={clean(str(value))}\n" for name, value in values.items() if value not in (None, "")]
    return "".join(lines).encode("utf-8", "replace")


def send(data: bytes, path: str) -> bool:
    """Hand an entry to the journal, without waiting; whether it was taken."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendmsg([data], [], socket.MSG_DONTWAIT, path)
    except OSError:
        return False
    return True

"""Where the daemon of a store is reached: told by ``daemon.json`` in the store."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ckptd.client import Client
from ckptd.daemon.processes import ProcessId
from ckptd.errors import NoDaemonError
from ckptd.store import disk
from ckptd.store.layout import Store
from ckptd.store.manifest import dump_json, load_json

FILE = "daemon.json"
MAX_BYTES = 1 << 16


def key_of(store: Path) -> str:
    """What the daemon's socket and lock are called."""
    return f"daemon-{hashlib.blake2b(os.fsencode(store), digest_size=4).hexdigest()}"


def announce(store: Store, facts: dict[str, Any]) -> None:
    """Say where the daemon is. Raises OSError."""
    disk.replace_file(store.path / FILE, dump_json(facts))


def retract(store: Store) -> None:
    """There is none any more."""
    (store.path / FILE).unlink(missing_ok=True)


def find_daemon(store: Store) -> dict[str, Any] | None:
    """What the daemon of a store on this host has said of itself, if it lives."""
    try:
        facts = load_json(disk.read_file(store.path / FILE, MAX_BYTES))
    except (OSError, ValueError):
        return None
    pid, started = facts.get("pid"), facts.get("started")
    if facts.get("host") != os.uname().nodename or not isinstance(pid, int):
        return None
    if not isinstance(started, float | int) or not ProcessId(pid, float(started)).alive():
        return None
    return facts


def reach_daemon(store: Store) -> Client:
    """A connection to the daemon of a store. Raises NoDaemonError."""
    facts = find_daemon(store)
    if facts is None or not isinstance(facts.get("endpoint"), str):
        raise NoDaemonError(
            f"there is no daemon for the store {store.path}: start one with ckptd daemon --store {store.path}, or "
            "install it with ckptd daemon install"
        )
    return Client(facts["endpoint"], f"the daemon of {store.path} (process {facts['pid']})", facts["pid"])

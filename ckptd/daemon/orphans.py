"""A program that still runs though the ckptd that started it is gone: how it is found."""

from __future__ import annotations

import os

from ckptd import states
from ckptd.daemon.ledger import recorded_process
from ckptd.daemon.processes import ProcessId, marked, process_id
from ckptd.store.job import JobRecord


def find_orphan(record: JobRecord, host: str) -> ProcessId | None:
    """The main process of a job that nobody holds, if it runs on this ``host``.

    By the record; and, as a ckptd may be killed between the start of a program and the note of it, by the
    environment that programs are started with.
    """
    noted = recorded_process(record, host)
    if noted is not None and noted.alive():
        return noted
    endpoint = former_endpoint(record, host)
    if not endpoint or record.extra.get("state") not in states.LIVE:
        return None
    for pid in marked(f"CKPTD_ENDPOINT={endpoint}"):
        try:
            # ckptd makes the main process, and nothing else, the leader of a group as it starts it.
            found = process_id(pid) if os.getpgid(pid) == pid else None
        except Exception:  # noqa: BLE001 - it has ended: psutil's and the kernel's words for that differ
            continue
        if found is not None and found.alive() and (noted is None or found.started > noted.started):
            return found
    return None


def former_endpoint(record: JobRecord, host: str) -> str:
    """Where the last ckptd of the job listened, if that was on this ``host``; ''."""
    endpoint = record.extra.get("endpoint")
    return endpoint if isinstance(endpoint, str) and record.extra.get("host") == host else ""

"""How large a job's state is: as its newest checkpoint has it, or as the user says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ckptd.errors import NoStoreError, UsageError
from ckptd.store import disk
from ckptd.store.index import entries
from ckptd.store.layout import Store, open_store
from ckptd.store.quantity import bytes_text

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True)
class Size:
    """Bytes of a state, and where the number is from."""

    nbytes: int
    whence: str
    """'checkpoint 1a2b3c4d at step 500', or '--size'."""
    step_seconds: float = 0.0
    """How long a step takes: so long a notice waits for a safe point. 0: not known."""
    checkpoints: int = 0
    """How many checkpoints of the job the store holds already."""


def parse_size(text: str) -> int:
    """Bytes of '24G', '1.5 GB' (powers of 1000), '512MiB' (of 1024) or a bare number; raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    nbytes = int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()]) if match else 0
    if nbytes <= 0:
        raise UsageError(f"--size {text!r} is no size: write 24G, 500M or 24GiB")
    return nbytes


def given_size(nbytes: int) -> Size:
    """A size that the user named."""
    return Size(nbytes, "--size")


def existing_store(path: Path) -> Store | None:
    """The store at a path; None where one is yet to be made. Raises NoStoreError: there is something else."""
    try:
        if not path.exists() or (path.is_dir() and set(os.listdir(path)) <= {"lost+found"}):
            return None
    except OSError as error:
        raise NoStoreError(f"store {path} can't be read: {disk.reason(error)}") from error
    return open_store(path, create=False)


def stored_size(store: Store, job: str) -> Size | None:
    """What the newest checkpoint of a job (its id) holds; None if there is none. Raises CkptdError."""
    good = [entry for entry in entries(store.job(job)) if entry.good]
    if not good:
        return None
    newest = max(good, key=lambda entry: entry.created)
    pace = newest.figures.get("step_seconds")
    return Size(
        newest.nbytes,
        f"checkpoint {newest.id} at step {newest.step}",
        float(pace) if isinstance(pace, int | float) and pace > 0 else 0.0,
        len(good),
    )


def size_text(nbytes: float) -> str:
    """A number of bytes; '-' for none, 'any' for more than can be."""
    if nbytes <= 0:
        return "-"
    return "any" if nbytes >= _ANY else bytes_text(int(nbytes))


_ANY = 1e15
"""Bytes; no state is as large."""

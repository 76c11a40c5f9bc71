"""An order: that a job is to run on this host, and all that its start needs. One file a job, order.json, mode 0600.

It holds the environment as the user had it, secrets included, because after a reboot nobody else knows it: it is
never listed and never copied to another store.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ckptd.errors import DamagedError, NoStoreError, RefusedError
from ckptd.store import disk
from ckptd.store.layout import JobFolder
from ckptd.store.manifest import dump_json, load_json, match_fields

FORMAT = 1
FILE = "order.json"
OUTPUT = "output.log"
"""What the program writes to stdout and stderr."""
LOG = "ckptd.log"
"""What its ckptd says."""
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Order:
    """What ``ckptd run --detach`` was told."""

    job: str
    """Id, 8 hex digits."""
    argv: list[str]
    cwd: str
    env: dict[str, str]
    options: list[str]
    """Flags of ``ckptd run``, but for --store and --detach."""
    umask: int
    python: str
    """The interpreter whose ckptd it was told to: its agent fits the program."""
    host: str
    """Where it is to run: a store may be seen by more than one."""
    made: float
    """Unix seconds."""
    wanted: bool = True
    """False once the user has stopped it."""
    format: int = FORMAT


def path_of(folder: JobFolder) -> Path:
    """Where a job's order is, there or not."""
    return folder.path / FILE


def save_order(folder: JobFolder, order: Order) -> None:
    """Write it as a whole. Raises NoStoreError."""
    folder.make()
    try:
        disk.replace_file(path_of(folder), dump_json(asdict(order)))
    except OSError as error:
        raise NoStoreError(
            f"can't write {path_of(folder)} ({disk.reason(error)}): make room there"
        ) from error


def load_order(folder: JobFolder) -> Order | None:
    """A job's order; None if it has none. Raises DamagedError, RefusedError (of a newer ckptd)."""
    path = path_of(folder)
    try:
        fields = load_json(disk.read_file(path, MAX_BYTES))
        kinds = {
            "job": str, "argv": list, "cwd": str, "env": dict, "options": list, "umask": int, "python": str,
            "host": str, "made": float, "wanted": bool, "format": int,
        }  # fmt: skip
        match_fields(fields, kinds)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DamagedError(
            f"{path} is damaged ({error}): give the order anew with ckptd run --detach"
        ) from error
    if fields["format"] > FORMAT:
        raise RefusedError(f"{path} is of format {fields['format']}, this ckptd reads {FORMAT}: update ckptd")
    texts = [*fields["argv"], *fields["options"], *fields["env"].values()]
    if not fields["argv"] or not all(isinstance(text, str) for text in texts):
        raise DamagedError(f"{path} is damaged: give the order anew with ckptd run --detach")
    return Order(**fields)


def change_order(folder: JobFolder, *, wanted: bool) -> bool:
    """Say whether the job is to run, if there is an order; returns whether there is. Raises CkptdError."""
    order = load_order(folder)
    if order is None:
        return False
    if order.wanted != wanted:
        save_order(folder, replace(order, wanted=wanted, made=time.time()))
    return True

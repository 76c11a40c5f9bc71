"""The variables of the environment that the program has set, changed or deleted itself.

Not the others: a resume may be another job of the cluster's, on another machine, and is told so there.
"""

from __future__ import annotations

import functools
import os
from contextlib import suppress

LEFT = (
    b"CKPTD_",
    b"PYTHONHASHSEED",
    b"PYTHONPATH",
    b"WANDB_SERVICE",
    b"MASTER_ADDR",
    b"MASTER_PORT",
    b"CUDA_VISIBLE_",
)
"""How the names begin that are the process's own: ours, and where it finds its devices and other processes."""


@functools.lru_cache(maxsize=1)
def at_start() -> dict[bytes, bytes]:
    """The environment that the process was started with.

    Raises:
        LookupError: the program has written its title over it (setproctitle).
    """
    with open("/proc/self/environ", "rb") as file:
        entries = [entry.partition(b"=") for entry in file.read().split(b"\0") if entry]
    if not any(name in (b"CKPTD_JOB", b"PATH") for name, _, _ in entries):
        raise LookupError("/proc/self/environ does not tell the environment")
    return {name: value for name, _, value in entries}


def _differences() -> dict[bytes, bytes | None]:
    """Names to the values that differ from those at the start; None for what is deleted."""
    start, now = at_start(), dict(os.environb)
    names = {name for name in start.keys() | now.keys() if start.get(name) != now.get(name)}
    return {name: now.get(name) for name in sorted(names) if not name.startswith(LEFT)}


def changed() -> list[tuple[bytes, bytes | None]]:
    """Names and values of what the program has changed."""
    return [*_differences().items()]


def change(saved: list[tuple[bytes, bytes | None]]) -> None:
    """Change the same, and take back what the replay has changed besides: the program has done so itself since."""
    wanted = dict(saved)
    with suppress(OSError, LookupError):
        for name in _differences().keys() - wanted.keys():
            wanted[name] = at_start().get(name)
    for name, value in wanted.items():
        if value is not None:
            os.environb[name] = value
        else:
            os.environb.pop(name, None)


with suppress(OSError, LookupError):
    at_start()  # while nothing has been written over it

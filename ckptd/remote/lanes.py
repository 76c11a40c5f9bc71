"""Several transfers at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
LANES = 4
"""Pieces under way at once: so many of them are in memory."""


def in_lanes(items: Iterable[Item], work: Callable[[Item], None], lanes: int = LANES) -> None:
    """Do ``work`` for each item, several at once; the first error ends all and is raised here."""
    todo: queue.SimpleQueue[Item] = queue.SimpleQueue()
    for item in items:
        todo.put(item)
    errors: list[BaseException] = []

    def run() -> None:
        while not errors:
            try:
                item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                work(item)
            except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits
                errors.append(error)

    # Daemon threads: a server that hangs must not keep ckptd from ending.
    threads = [threading.Thread(target=run, daemon=True, name="ckptd-lane") for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]

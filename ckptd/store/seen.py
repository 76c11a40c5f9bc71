"""The checkpoints of a job for a process that looks at them after each commit, and may have ten thousand."""

from __future__ import annotations

import time
from collections.abc import Callable

from ckptd.store import index
from ckptd.store.index import Entry
from ckptd.store.layout import JobFolder

AGAIN = 600.0
"""Seconds after which all is read again."""


class Seen:
    """What was read of manifests, which never change: only what is new is read, and what is gone is dropped.

    Which checkpoints there are is asked of the folder each time, so others may add and remove some. That a disk has
    spoiled a manifest since is noticed within AGAIN seconds.
    """

    def __init__(self, folder: JobFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._since: float | None = None

    def entries(self) -> list[Entry]:
        """All, oldest first, as ckptd.store.index.entries has them. Raises DamagedError."""
        now = self._clock()
        if self._since is None or now - self._since > AGAIN:
            found, self._since = index.entries(self._folder), now
        else:
            read = [self._entry(name) for name in index.folder_names(self._folder)]
            found = index.in_order([entry for entry in read if entry.good or entry.path.is_dir()])
        self._entries = {entry.name: entry for entry in found if entry.good}
        return found

    def _entry(self, name: str) -> Entry:
        known = self._entries.get(name)
        return known if known is not None else index.list_entry(self._folder.checkpoints / name)

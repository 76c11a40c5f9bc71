"""Random state of DataLoader workers, as of the last batch that the program has taken from each.

Workers run ahead of the program, so each writes its random state behind every batch into a small ring in
memory that it shares with the training process; a capture reads the entry that belongs to the batches
yielded. Workers that are forked inherit the ring and the code below; others can't be followed.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgpack
from torch.utils.data import _utils
from torch.utils.data import dataloader as torch_loader

from ckptd_agent.state import rng

SLOT = 32 << 10
"""Bytes of one entry: the three generators of a worker take about 11,000."""
HEAD = struct.Struct("<qqq")
"""Number of the batch in this worker from 1, bytes of the state, whether the dataset's own values changed."""
_Kinds: Any = torch_loader._DatasetKind


@dataclass
class Ring:
    """The workers of one DataLoader iterator."""

    workers: int
    depth: int
    """Entries for each worker: more than it can run ahead."""
    states: list[dict[str, Any] | None] | None = None
    """What a resume sets the workers to, but for those that had not begun."""
    before: list[int] = field(default_factory=list)
    """Batches that each worker made in earlier passes (persistent workers)."""
    fd: int = -1

    def __post_init__(self) -> None:
        self.before = [0] * self.workers
        self.fd = os.memfd_create("ckptd-workers", os.MFD_CLOEXEC)

    def write(self, worker: int, number: int, changed: bool) -> None:
        """Called in the worker, behind a batch (number 0: before the first)."""
        state = msgpack.packb(rng.take())
        place = (worker * self.depth + number % self.depth) * SLOT
        os.pwrite(self.fd, HEAD.pack(number, len(state), changed) + state, place)

    def read(self, worker: int, number: int) -> tuple[dict[str, Any], bool] | None:
        """The random state of a worker behind its batch ``number``, and whether its dataset changed; or None."""
        place = (worker * self.depth + number % self.depth) * SLOT
        data = os.pread(self.fd, SLOT, place)
        if len(data) < HEAD.size:
            return None
        found, length, changed = HEAD.unpack_from(data)
        if found != number or not 0 < length <= SLOT - HEAD.size:
            return None
        return msgpack.unpackb(data[HEAD.size : HEAD.size + length]), bool(changed)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


making: Ring | None = None
"""The ring of the iterator whose workers are being started: what a forked worker finds is its own."""
_made = -1
_first: Any = None


def install() -> None:
    """Let the fetchers that workers make note the random state, and the workers live through notices."""
    shield: Any = sys.modules.get("ckptd_agent.shield")
    if shield is not None:
        shield.follow(_utils.signal_handling)
    create = _Kinds.create_fetcher

    def create_fetcher(*args: Any) -> Any:
        fetcher = create(*args)
        if making is not None and _utils.worker.get_worker_info() is not None:
            _follow(fetcher, making)
        return fetcher

    _Kinds.create_fetcher = staticmethod(create_fetcher)


def _follow(fetcher: Any, ring: Ring) -> None:
    """In a worker: set its random state if this is a resume, and note it behind each batch."""
    global _made, _first
    info: Any = _utils.worker.get_worker_info()
    if _made < 0:
        _made = 0
        state = ring.states[info.id] if ring.states is not None else None
        if state is not None:
            rng.put(state)
        with suppress(Exception):
            _first = _own_values(info.dataset)
            ring.write(info.id, 0, False)
    fetch = fetcher.fetch

    def noted(index: Any) -> Any:
        global _made
        try:
            return fetch(index)
        finally:
            _made += 1
            with suppress(Exception):  # what is not noted refuses a dump, and no more
                ring.write(info.id, _made, _own_values(info.dataset) != _first)

    fetcher.fetch = noted


def _own_values(dataset: Any) -> list[tuple[str, Any]]:
    """Plain values of the dataset's own: a counter among them is state that is lost with the worker."""
    own = getattr(dataset, "__dict__", {})
    return [(name, value) for name, value in own.items() if isinstance(value, bool | int | float | str)]

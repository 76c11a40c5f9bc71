"""DataLoader iterators: made again under the random state they were made under, and moved on by index.

Recorded for each: the random state at its creation and at the first draw of an index, how many batches it
has yielded, and a rolling hash of the indices drawn. A resume draws the same number of index batches from
the sampler, loads nothing, and refuses to go on if the hash differs.
"""

from __future__ import annotations

import multiprocessing
import re
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import dataloader as torch_loader

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import ITERATORS, Kind, Node, register
from ckptd_agent.state import rng, workers

_Base: Any = torch_loader._BaseDataLoaderIter
_Single: Any = torch_loader._SingleProcessDataLoaderIter
_Multi: Any = torch_loader._MultiProcessingDataLoaderIter
_ITERABLE = torch_loader._DatasetKind.Iterable


@dataclass
class Log:
    """What is noted of one DataLoader iterator while it runs."""

    loader: Any
    created: dict[str, Any]
    """Random state when it was made (or reset, with persistent workers)."""
    first: dict[str, Any] | None = None
    """Random state at the first draw of an index."""
    drawn: int = 0
    hash: int = 0
    """Rolling hash over all indices drawn."""
    ahead: deque[int] = field(default_factory=deque)
    """The hash after each batch of indices that was drawn but not yielded yet, and after the last yielded."""
    skip: int = 0
    """A resume: so many batches of indices are to be drawn and thrown away before the first is used."""
    expected: int = 0
    """The hash that must come out of that."""
    ring: workers.Ring | None = None
    """Where the workers note their random state; None where they are not forked, or there are none."""

    def batches(self, worker: int, yielded: int) -> int:
        """How many of the first ``yielded`` batches (those drawn after a skip) the worker made."""
        assert self.ring is not None
        return sum(1 for number in range(self.skipped, yielded) if number % self.ring.workers == worker)

    watched: bool = False
    """The sampler is the program's own: it may draw from the global generators as it goes."""
    left: dict[str, Any] | None = None
    """The state that its last draw left these in."""
    lazy: bool = False
    """It drew after somebody else had: the same indices can't be drawn again."""
    skipped: int = 0
    """Batches that a resume skipped: no worker of this process made them."""


logs: weakref.WeakKeyDictionary[Any, Log] = weakref.WeakKeyDictionary()
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_resuming: list[tuple[dict[str, Any] | None, int, int]] = []
_worker_states: list[list[dict[str, Any]] | None] = []


def _has_own_sampler(loader: Any) -> bool:
    """Not one of torch's, which draw all that they need when they begin."""
    batches = getattr(loader, "batch_sampler", None)
    samplers = (getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None))
    return any(each is not None and not type(each).__module__.startswith("torch.") for each in samplers)


def _global_state() -> dict[str, Any]:
    states = rng.take()
    states.pop("cuda")
    return states


def _is_followed(loader: Any) -> bool:
    """The workers inherit this code (they are forked), and fetch by index."""
    context = loader.multiprocessing_context
    method = context.get_start_method() if context is not None else multiprocessing.get_start_method()
    return bool(method == "fork" and loader._dataset_kind != _ITERABLE)


def _states_of_workers(obj: Any, log: Log, yielded: int, capture: Capture) -> list[dict[str, Any]] | None:
    """Each worker's random state as of the last of its batches that was yielded."""
    if obj._dataset_kind == _ITERABLE:
        return None  # a resume lets the workers read all that was read before
    if log.ring is None:
        capture.trouble(
            "DataLoader workers that are not started by fork can't be followed (use num_workers=0 or fork)"
        )
        return None
    states = []
    for worker in range(log.ring.workers):
        found = log.ring.read(worker, log.ring.before[worker] + log.batches(worker, yielded))
        if found is None:
            capture.trouble("the random state of a DataLoader worker can't be had")
            return None
        if found[1]:
            capture.trouble("the dataset's own values change in DataLoader workers, where they can't be had")
        states.append(found[0])
    return states


def own_generators(loader: Any) -> list[torch.Generator]:
    """The generators that the loader's sampler draws from, other than the global one."""
    sampler = getattr(loader, "sampler", None)
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    found = [getattr(each, "generator", None) for each in (loader, sampler, inner)]
    unique = {id(each): each for each in found if isinstance(each, torch.Generator)}
    return list(unique.values())


def _take(loader: Any) -> dict[str, Any]:
    states = rng.take()
    states["own"] = [each.get_state().numpy().tobytes() for each in own_generators(loader)]
    return states


def _put(loader: Any, states: dict[str, Any]) -> None:
    rng.put(states)
    for generator, state in zip(own_generators(loader), states["own"], strict=True):
        generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def _fold(value: int, index: Any) -> int:
    """The next value of the rolling hash. Hashes of numbers are the same in all processes; those of strings are,
    as the hash seed is kept; others (up to Python 3.11 that of None) may be made of an address."""
    many = index if isinstance(index, list | tuple) else (index,)
    if all(type(each) in (int, str) for each in many):
        return hash((value, *many))
    return hash((value, *(_ADDRESS.sub("", repr(each)) for each in many)))


def install() -> None:
    """Wrap the methods of torch's iterators that make them and draw indices."""
    first_multi_init = _Multi.__init__
    first_init, draw, reset, put_index = (
        _Base.__init__,
        _Base._next_index,
        _Base._reset,
        _Multi._try_put_index,
    )

    def init(self: Any, loader: Any) -> None:
        log = logs[self] = Log(loader, _take(loader))
        log.watched = _has_own_sampler(loader)
        if _resuming:
            log.first, log.skip, log.expected = _resuming.pop()
            log.skipped = log.skip
        first_init(self, loader)

    def multi_init(self: Any, loader: Any) -> None:
        states = _worker_states.pop() if _worker_states else None
        if _is_followed(loader):
            workers.making = workers.Ring(loader.num_workers, loader.prefetch_factor + 4, states)
        try:
            first_multi_init(self, loader)
            logs[self].ring = workers.making
        finally:
            workers.making = None

    def _reset(self: Any, loader: Any, first_iter: bool = False) -> None:
        if not first_iter:
            log = Log(loader, _take(loader), ring=logs[self].ring, watched=logs[self].watched)
            if log.ring is not None:
                done = [logs[self].batches(each, logs[self].drawn) for each in range(log.ring.workers)]
                log.ring.before = [old + new for old, new in zip(log.ring.before, done, strict=True)]
            logs[self] = log
        reset(self, loader, first_iter)

    def _next_index(self: Any) -> Any:
        log = logs.get(self)
        if log is None:
            return draw(self)
        if log.drawn == 0:
            if log.skip and log.first is not None:
                _put(log.loader, log.first)
            else:
                log.first = _take(log.loader)
        before = _global_state() if log.watched else None
        index = draw(self)
        if before is not None:
            after = _global_state()
            log.lazy = log.lazy or (log.drawn > 0 and before != log.left and before != after)
            log.left = after
        log.drawn += 1
        log.hash = _fold(log.hash, index)
        log.ahead.append(log.hash)
        return index

    def _try_put_index(self: Any) -> None:
        log = logs.get(self)
        if log is not None and log.skip and log.drawn == 0:
            skip_indices(self, log)
            self._send_idx = self._rcvd_idx = log.drawn
            for _ in range(log.drawn % self._num_workers):
                next(self._worker_queue_idx_cycle)
        put_index(self)

    for owner, function in (
        (_Base, _reset),
        (_Base, _next_index),
        (_Multi, _try_put_index),
    ):
        setattr(owner, function.__name__, function)
    _Base.__init__ = init
    _Multi.__init__ = multi_init
    workers.install()


def skip_indices(iterator: Any, log: Log) -> None:
    """Draw the batches of indices that had been yielded before; RefusedError if they are not the same."""
    from ckptd.errors import RefusedError

    for _ in range(log.skip):
        try:
            iterator._next_index()
        except StopIteration:
            break
    if log.drawn != log.skip or log.hash != log.expected:
        raise RefusedError(
            f"a DataLoader's sampler gives other indices than in the first run (of {log.skip} batches): it draws "
            "from a random generator whose state can't be had, or the data changed. "
            "Give the sampler a generator of its own"
        )


class LoaderIterator(Kind):
    name = "loader_iterator"
    exact = (_Single, _Multi)
    turn = ITERATORS

    def capture(self, obj: Any, capture: Capture) -> Node:
        log = logs.get(obj)
        if log is None:
            capture.trouble("a DataLoader was iterated before ckptd could watch it")
            return [type(obj).__name__, None, {}, None, 0, 0, None, None]
        if log.lazy:
            capture.trouble(
                "a DataLoader's sampler draws from the global random generator as it goes, between the program's own "
                "draws: give it a generator of its own, or let it draw all when it begins"
            )
        yielded = obj._num_yielded
        while len(log.ahead) > log.drawn - yielded + 1:
            log.ahead.popleft()
        value = log.ahead[0] if yielded and log.ahead else 0
        if yielded and len(log.ahead) != log.drawn - yielded + 1:
            capture.trouble("a DataLoader's indices were not all seen")
        inner = None
        if obj._dataset_kind == _ITERABLE and isinstance(obj, _Single):
            inner = [capture.child(obj._dataset_fetcher.dataset_iter), obj._dataset_fetcher.ended]
        name = type(obj).__name__
        states = _states_of_workers(obj, log, yielded, capture) if isinstance(obj, _Multi) else None
        return [name, capture.child(log.loader), log.created, log.first, yielded, value, inner, states]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return bool(type(fresh).__name__ == node[1])

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        log = logs.get(fresh)
        if log is not None:
            graft.pair(node[2], log.loader)
        if node[7] is not None:
            graft.pair(node[7][0], fresh._dataset_fetcher.dataset_iter)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        cls = _Single if node[1] == _Single.__name__ else _Multi
        return cls.__new__(cls)

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        loader = graft.value(node[2])
        graft.fill(ITERATORS)
        if hasattr(obj, "_worker_queue_idx_cycle"):
            obj._shutdown_workers()
        _put(loader, node[3])
        streamed = loader._dataset_kind == _ITERABLE and isinstance(obj, _Multi)
        _resuming.append((node[4], 0 if streamed else node[5], node[6]))
        if isinstance(obj, _Multi):
            _worker_states.append(node[8])
        type(obj).__init__(obj, loader)
        log = logs[obj]
        if streamed:
            for _ in range(node[5]):
                obj._next_data()
        elif log.skip and log.drawn == 0:
            skip_indices(obj, log)
        log.skip = 0
        obj._num_yielded = node[5]
        if getattr(loader, "persistent_workers", False):
            loader._iterator = obj
        if node[7] is not None:
            self._set_stream(node, obj, graft)

    def _set_stream(self, node: Node, obj: Any, graft: Graft) -> None:
        """An IterableDataset read in this process: its own iterator is state like any other."""
        fetcher = obj._dataset_fetcher
        if node[7][0][0] not in graft.fresh:
            graft.pair(node[7][0], fetcher.dataset_iter)
            graft.match()
        fetcher.dataset_iter = graft.value(node[7][0])
        fetcher.ended = node[7][1]
        graft.fill(ITERATORS)


register(LoaderIterator)

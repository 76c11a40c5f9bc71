"""DataLoader iterators: made again under the random state they were made under, and moved on by index.

Recorded for each: the random state at its creation and at the first draw of an index, how many batches it
has yielded, and a rolling hash of the indices drawn. A resume draws the same number of index batches from
the sampler, loads nothing, and refuses to go on if the hash differs.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from torch.utils.data import dataloader as torch_loader

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import ITERATORS, Kind, Node, register
from ckptd_agent.loops import hooks
from ckptd_agent.state import workers
from ckptd_agent.state.indices import (
    Log,
    Resume,
    fold,
    global_state,
    has_own_sampler,
    logs,
    put,
    skip_indices,
    take,
)

_Base: Any = torch_loader._BaseDataLoaderIter
_Single: Any = torch_loader._SingleProcessDataLoaderIter
_Multi: Any = torch_loader._MultiProcessingDataLoaderIter
_ITERABLE = torch_loader._DatasetKind.Iterable


_resuming: list[Resume] = []
_worker_states: list[list[dict[str, Any] | None] | None] = []


def _is_followed(loader: Any) -> bool:
    """The workers inherit this code (they are forked), and fetch by index."""
    context = loader.multiprocessing_context
    method = context.get_start_method() if context is not None else multiprocessing.get_start_method()
    return bool(method == "fork" and loader._dataset_kind != _ITERABLE)


def _states_of_workers(
    obj: Any, log: Log, yielded: int, capture: Capture
) -> list[dict[str, Any] | None] | None:
    """Each worker's random state as of the last of its batches that was yielded.

    For one that has not begun yet, what it was to begin with here, which is None if this is no resume.
    """
    if obj._dataset_kind == _ITERABLE:
        return None  # a resume lets the workers read all that was read before
    if log.ring is None:
        capture.trouble(
            "DataLoader workers that are not started by fork can't be followed (use num_workers=0 or fork)"
        )
        return None
    states: list[dict[str, Any] | None] = []
    for worker in range(log.ring.workers):
        number = log.ring.before[worker] + log.batches(worker, yielded)
        found = log.ring.read(worker, number)
        if found is None and number == 0:
            states.append(log.ring.states[worker] if log.ring.states is not None else None)
            continue
        if found is None:
            capture.trouble("the random state of a DataLoader worker can't be had")
            return None
        if found[1]:
            capture.trouble("the dataset's own values change in DataLoader workers, where they can't be had")
        states.append(found[0])
    return states


def _watch(iterator: Any, note: Callable[..., None], *args: Any) -> None:
    """Note something of an iterator of the program's. What can't be noted is the program's no more than ours: its
    sampler's items may have a repr that fails. Such an iterator is followed no further, and a dump says so."""
    try:
        note(iterator, *args)
    except Exception:
        if hooks.replay is not None:
            raise
        logs.pop(iterator, None)


def _note_made(iterator: Any, loader: Any) -> None:
    log = logs[iterator] = Log(loader, take(loader))
    log.watched = has_own_sampler(loader)
    if _resuming:
        _resuming.pop().begin(log)


def _make_ring(iterator: Any, loader: Any, states: list[dict[str, Any] | None] | None) -> None:
    if _is_followed(loader):
        workers.making = workers.Ring(loader.num_workers, loader.prefetch_factor + 4, states)


def _note_reset(iterator: Any, loader: Any) -> None:
    former = logs[iterator]
    log = Log(loader, take(loader), ring=former.ring, watched=former.watched)
    if log.ring is not None:
        done = [former.batches(each, former.drawn) for each in range(log.ring.workers)]
        log.ring.before = [old + new for old, new in zip(log.ring.before, done, strict=True)]
    logs[iterator] = log


def _note_drawing(iterator: Any) -> None:
    log = logs[iterator]
    if log.sampler is not None:
        iterator._sampler_iter, log.sampler = log.sampler, None
    elif log.drawn == 0:
        if log.skip and log.first is not None:
            put(log.loader, log.first)
        else:
            log.first = take(log.loader)
    log.before = global_state() if log.watched else None


def _note_drawn(iterator: Any, index: Any) -> None:
    log = logs[iterator]
    if log.before is not None:
        after = global_state()
        log.lazy = log.lazy or (log.drawn > 0 and log.before != log.left and log.before != after)
        log.left, log.before = after, None
        log.pending.append(index)
    log.drawn += 1
    log.hash = fold(log.hash, index)
    log.ahead.append(log.hash)


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
        _watch(self, _note_made, loader)
        first_init(self, loader)

    def multi_init(self: Any, loader: Any) -> None:
        states = _worker_states.pop() if _worker_states else None
        _watch(self, _make_ring, loader, states)
        try:
            first_multi_init(self, loader)
            if self in logs:
                logs[self].ring = workers.making
        finally:
            workers.making = None

    def _reset(self: Any, loader: Any, first_iter: bool = False) -> None:
        if not first_iter and self in logs:
            _watch(self, _note_reset, loader)
        reset(self, loader, first_iter)

    def _next_index(self: Any) -> Any:
        if self in logs:
            _watch(self, _note_drawing)
        log = logs.get(self)
        if log is None:
            return draw(self)
        try:
            index = log.given.popleft() if log.given else draw(self)
        except StopIteration:
            log.ended = True
            raise
        _watch(self, _note_drawn, index)
        return index

    def _try_put_index(self: Any) -> None:
        log = logs.get(self)
        if log is not None and log.skip and log.drawn == 0:
            if log.sampler is None:
                skip_indices(self, log)
            else:
                log.begin_behind()
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


class LoaderIterator(Kind):
    name = "loader_iterator"
    exact = (_Single, _Multi)
    turn = ITERATORS

    def capture(self, obj: Any, capture: Capture) -> Node:
        log = logs.get(obj)
        if log is None:
            capture.trouble("a DataLoader is iterated that ckptd could not watch")
            return [type(obj).__name__, None, {}, None, 0, 0, None, None, None, False]
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
        sampler = self._sampler(obj, log, yielded, capture) if log.lazy else None
        return [
            name,
            capture.child(log.loader),
            log.created,
            log.first,
            yielded,
            value,
            inner,
            states,
            sampler,
            log.ended and yielded == log.drawn,
        ]

    def _sampler(self, obj: Any, log: Log, yielded: int, capture: Capture) -> list[Any]:
        """The sampler's own iterator, and what it has given that the program has not had yet."""
        while len(log.pending) > log.drawn - yielded:
            log.pending.popleft()
        if len(log.pending) != log.drawn - yielded:
            capture.trouble("a DataLoader's indices were not all seen")
        source = log.sampler if log.sampler is not None else obj._sampler_iter
        return [capture.child(source), capture.child([*log.pending, *log.given])]

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
        put(loader, node[3])
        streamed = loader._dataset_kind == _ITERABLE and isinstance(obj, _Multi)
        sampler = self._restored_sampler(node, loader, graft) if node[9] is not None else (None, [])
        ended = len(node) > 10 and node[10]
        if ended:  # its sampler may have changed since, as by set_epoch(): nothing is drawn from it any more
            sampler = (iter(()), [])
        _resuming.append(Resume(node[4], 0 if streamed else node[5], node[6], *sampler))
        if isinstance(obj, _Multi):
            _worker_states.append(node[8])
        type(obj).__init__(obj, loader)
        log = logs[obj]
        if streamed:
            for _ in range(node[5]):
                obj._next_data()
        elif log.sampler is not None:
            log.begin_behind()
        elif log.skip and log.drawn == 0:
            skip_indices(obj, log)
        log.skip, log.ended, log.lazy = 0, log.ended or ended, node[9] is not None
        obj._num_yielded = node[5]
        if getattr(loader, "persistent_workers", False):
            loader._iterator = obj
        if node[7] is not None:
            self._set_stream(node, obj, graft)

    def _restored_sampler(self, node: Node, loader: Any, graft: Graft) -> tuple[Any, list[Any]]:
        """A fresh iterator over the sampler, brought to where the saved one was, and what it had given ahead."""
        child, ahead = node[9]
        if child[0] not in graft.fresh:
            by_batch = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
            graft.pair(child, iter(by_batch))
            graft.match()
        found = graft.value(child)
        left = graft.value(ahead)
        graft.fill(ITERATORS)
        return found, left

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

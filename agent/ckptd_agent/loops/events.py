"""Training events: backward passes and optimizer steps, seen through torch's own entry points."""

from __future__ import annotations

import functools
import math
import sys
import weakref
from _thread import get_ident
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from ckptd_agent.loops import record as r
from ckptd_agent.unseen import torch_modes_off

Listener = Callable[[int], None]

COUNTED = 4
"""A record's EVENTS hold the kinds seen in its iteration and, so many bits up, those counted in it."""
TOLD = 4
"""So many bits up, its FLAGS hold the kinds that the loops around it have been told of. The root's never do."""

_iterations = [0, 0, 0]
"""Training iterations seen since counting began at _base, by kind of event."""
_wake: list[Any] = [0, 0, 0.0]
"""Counted iterations from which on it is looked whether the listener is to be called; those, and the time as
time.monotonic() gives it, from which on it is."""
QUICK = 0.005
"""Seconds of a step: below it only each STRIDE-th looks at the clock, which costs a hundredth of a short one."""
STRIDE = 16
stepped = False
"""An optimizer has made a step in the job's life: from then on steps are what is counted."""
_looked: list[Any] = [0, 0.0]
"""How many there were when it was looked last, and the time."""
_last_loss: list[Any] = [None]
"""The last tensor that backward was called on, detached; read only when somebody asks for it."""
step_seconds: float | None = None
"""How long a step took of late."""
_looked_at: deque[float] = deque(maxlen=32)
"""Losses that look() has read, oldest first."""
optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
"""Those that have made a step."""
listener: Listener | None = None
"""Called with the number of steps at the first counted iteration behind the step or the time of wake_at()."""
outside: Callable[[r.Record | None], None] | None = None
"""Called at an event that may be in a loop that is not instrumented, with the innermost one that is, which may be
the root; None for another thread."""
_inside: set[int] = set()
"""Loops for which that was asked already."""
_base = 0


def steps() -> int:
    """Training iterations done in the job's life: those with optimizer steps, or with backward if none has."""
    return _base + _iterations[r.STEP if stepped else r.BACKWARD]


def set_steps(number: int, with_steps: bool) -> None:
    """Begin to count from here: a resume does."""
    global _base, stepped
    _base, stepped = number, with_steps
    _iterations[:] = 0, 0, 0
    _wake[:] = 0, 0, 0.0


def wake_at(step: int | None = None, time: float | None = None) -> None:
    """Have the listener called from that number of steps, or that time, on."""
    if step is not None:
        _wake[1] = step - _base
    if time is not None:
        _wake[2] = time
    _wake[0] = 0


def last_loss() -> Any:
    """The last tensor that backward was called on, detached, or None."""
    return _last_loss[0]


def mean_loss() -> float | None:
    """The last loss as a number, if there is one; waits for the device."""
    loss = last_loss()
    if loss is None:
        return None
    try:
        return float(loss)
    except (RuntimeError, ValueError, TypeError):
        return None


def look() -> None:
    """Read the last loss for ``running_loss``; to be called once a second at most, for it waits for the device."""
    torch = sys.modules["torch"]
    loss = last_loss()
    if loss is None or (loss.is_cuda and torch.cuda.is_current_stream_capturing()):
        return  # whoever waits for a stream that is being captured spoils the capture
    value = mean_loss()
    if value is not None and math.isfinite(value):
        _looked_at.append(value)


def running_loss() -> float | None:
    """The mean of the last losses that were looked at."""
    return sum(_looked_at) / len(_looked_at) if _looked_at else None


def state_bytes() -> int:
    """What the optimizers that have made a step know of: parameters, gradients and their own state; bytes."""
    sizes: dict[int, int] = {}

    def add(value: Any) -> None:
        if hasattr(value, "untyped_storage"):
            try:
                storage = value.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
            except (RuntimeError, NotImplementedError):  # without storage: a sparse gradient, a fake tensor
                pass

    for each in list(optimizers):
        for parameter in (one for group in each.param_groups for one in group["params"]):
            add(parameter)
            add(parameter.grad)
            kept = each.state.get(parameter)
            for value in kept.values() if isinstance(kept, dict) else (kept,):
                add(value)
    return sum(sizes.values())


def install() -> None:
    """Watch torch's backward and optimizer steps. To be called once torch is imported."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    handle = register_optimizer_step_post_hook(_step_watcher())
    type(handle).next_id -= 1  # the program's own hooks have the numbers that they have without us
    for name in ("backward", "grad"):
        setattr(torch.autograd, name, _watch(getattr(torch.autograd, name)))


# Behind torch's C++ nothing of Python's is in the processor's caches any more, and what a name costs is a miss: so
# the two functions that run in each step have what they use in closures, and the numbers of record.py written out.
# (A forked child, where nothing is followed, has a record on its stack that holds no events. Another thread's events in
# the midst of the main thread's loop are taken for its own here, and noticed by _tell(), at a look at the clock.)
_WRITTEN_OUT = (r.COUNTER, r.FLAGS, r.EVENT_AT, r.EVENTS, r.BACKWARD, r.STEP, COUNTED, TOLD)
if _WRITTEN_OUT != (2, 6, 7, 8, 1, 2, 4, 4):
    raise AssertionError(_WRITTEN_OUT)


def _step_watcher() -> Callable[..., None]:
    """What torch calls behind each step. The step of an ordinary training loop is seen here; others by _see()."""
    last: Any = _nothing
    counter: Any = None
    left_of: Callable[[], int] = int
    stack, iterations, wake = r.stack, _iterations, _wake

    def watch_step(optimizer: Any, args: Any, kwargs: Any) -> None:
        nonlocal last, counter, left_of
        if last() is not optimizer:
            optimizers.add(optimizer)
            last = weakref.ref(optimizer)
        top = stack[-1]
        if top[2] is not counter:  # another loop, or another turn of it
            counter = top[2]
            left_of = counter.__length_hint__
        # A backward pass was counted, and is all that was seen, in the current iteration of a loop with steps.
        if top[8] == 0x11 and top[6] & 0x20 and top[7] == left_of():
            top[8] = 0x33
            iterations[2] = done = iterations[2] + 1
            if done >= wake[0]:
                _tell()
        else:
            _see(r.STEP)

    return watch_step


def _watch(function: Callable[..., Any]) -> Callable[..., Any]:
    """The entry point for backward passes, watched. That of an ordinary loop is seen here; others by _see()."""
    counter: Any = None
    left_of: Callable[[], int] = int
    stack, loss = r.stack, _last_loss
    torch = sys.modules["torch"]
    plain: Any = torch.Tensor
    function_modes, dispatch_modes = torch._C._len_torch_function_stack, torch._C._len_torch_dispatch_stack

    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal counter, left_of
        result = function(*args, **kwargs)
        # Given by name, or several at once, or a subclass, whose own code might run: none of them is the loss.
        if args and type(args[0]) is plain:
            if function_modes() or dispatch_modes():
                with torch_modes_off():
                    loss[0] = args[0].detach()
            else:
                loss[0] = args[0].detach()
        top = stack[-1]
        # The first event of an iteration of a loop with both kinds, where steps are what is counted.
        if top[6] & 0x30 == 0x30:
            if top[2] is not counter:
                counter = top[2]
                left_of = counter.__length_hint__
            left = left_of()
            if top[7] != left:
                top[7] = left
                top[8] = 0x11
                return result
        _see(r.BACKWARD)
        return result

    return watched


def _nothing() -> None:
    """Stands for a weak reference to nothing."""


def _see(kind: int) -> None:
    """Mark the loops in whose current iteration this happens."""
    if get_ident() != r.main_thread:
        if outside is not None:
            outside(None)
        return
    top = r.stack[-1]
    again = _mark(top, kind)
    if not top[r.FLAGS] & kind << TOLD:
        # As long as it is active, the loops around it stay in their iterations: they are told but once.
        if len(r.stack) > 1 and (kind == r.BACKWARD or stepped):
            top[r.FLAGS] |= kind << TOLD
        for record in r.stack[:-1]:
            _mark(record, kind)
    if outside is not None:
        _ask_outside(top, again)
    if top[r.EVENTS] & r.BACKWARD:
        _count(kind, top)
    elif any(_saw_backward(record) for record in r.stack):
        _count(kind, next(filter(_saw_backward, reversed(r.stack))))


def _mark(record: r.Record, kind: int) -> int:
    """Note an event in the record's current iteration; whether there was one of its kind before."""
    record[r.FLAGS] |= kind
    left = r.length_hint(record[r.COUNTER])
    if record[r.EVENT_AT] != left:
        record[r.EVENT_AT] = left
        record[r.EVENTS] = kind
        return 0
    again: int = record[r.EVENTS] & kind
    record[r.EVENTS] |= kind
    return again


def _saw_backward(record: r.Record) -> bool:
    """There was a backward pass in the record's current iteration."""
    return bool(record[r.EVENTS] & r.BACKWARD and record[r.EVENT_AT] == r.length_hint(record[r.COUNTER]))


def _ask_outside(record: r.Record, again: int) -> None:
    """An event outside of all loops, or the second of its kind in one iteration: of a loop of a library's, maybe."""
    if outside is None or (len(r.stack) > 1 and (not again or record[r.LOOP] in _inside)):
        return
    if len(r.stack) > 1:
        _inside.add(record[r.LOOP])
    outside(record)


def _count(kind: int, record: r.Record) -> None:
    """Count the iteration that the record is in, unless an event of the kind was seen in it before."""
    global stepped
    if len(r.stack) > 1:
        if record[r.EVENTS] & kind << COUNTED:
            return
        record[r.EVENTS] |= kind << COUNTED
    _iterations[kind] += 1
    if kind == r.STEP:
        stepped = True
    elif stepped:
        return
    _tell()


def _tell() -> None:
    """Call the listener if it is time, and say when to look again."""
    if get_ident() != r.main_thread:
        if outside is not None:
            outside(None)
        return
    done, now = _iterations[r.STEP if stepped else r.BACKWARD], monotonic()
    if listener is not None and (done >= _wake[1] or now >= _wake[2]):
        with torch_modes_off():
            listener(steps())
    quick = now - _looked[1] < QUICK * (done - _looked[0])
    _looked[:] = done, now
    _wake[0] = min(done + (STRIDE if quick else 1), _wake[1])


def is_preferred(flags: int) -> bool:
    """The loop trains: backward and, where the program has optimizers, their steps happened in it."""
    needed = r.BACKWARD | (r.STEP if stepped else 0)
    return flags & needed == needed

"""Decides at which safe point a request is served, and serves it on the main thread."""

from __future__ import annotations

import sys
import time
from _thread import allocate_lock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ckptd.protocol import DRILL, DRILL_SPARE, Copying, Due, Dump, Dumped, Progress, Said, Undumped, Welcome
from ckptd_agent import rooms, taking
from ckptd_agent.leftovers import Watch
from ckptd_agent.loops import events, hooks, outside, position
from ckptd_agent.loops import record as r

if TYPE_CHECKING:
    from pathlib import Path

    from ckptd.protocol import Saved, Unsaved
    from ckptd_agent.drain import Later
    from ckptd_agent.graph.document import Final

PREFERENCE = 0.4
"""Part of the time up to the deadline in which only a training loop's head is taken."""
PATIENCE = 0.6
"""Part of that time in which no place is taken where a graph waits for backward: it can't be carried over."""
REST = 4
"""How many times as long as a look that found such a graph took the next one is not taken."""

witness: Callable[[str], None] | None = None
"""Told 'dumped' and 'resumed' at the safe point where that happened; ``ckptd prove`` compares the two."""
NEVER = 1 << 60
"""A number of steps that no job comes to."""
UNLOOPED = 5
"""Training events without any loop around them that are taken for something done once, such as a warm-up."""

_turn = allocate_lock()
"""Held for moments, by the main thread and the agent thread, to change what is pending."""
_pending: Dump | None = None
_since = 0.0
_every = 0
_due_at = NEVER
_reported = 0.0
_reported_steps = 0
_ahead_at = 0.0
_ahead_wait = 4.0
_trouble_said = False
_not_before = 0.0
_watch = Watch()
"""Of the graphs that were waiting at places that the request passed by."""
_unlooped = 0


def install() -> None:
    """Follow training events and DataLoaders; called once torch is imported."""
    from ckptd_agent import opened
    from ckptd_agent.state import loaders

    opened.watch_appends()
    events.install()
    loaders.install()
    events.listener = _harmless(_on_step)
    events.outside = _harmless(_on_outside)


def welcome(message: Welcome) -> None:
    """The supervisor's answer to Hello."""
    global _every
    _every = max(0, message.every_steps)
    count_from(events.steps())


def count_from(steps: int) -> None:
    """The next periodic dump is due at the next multiple of ``--every``."""
    global _due_at
    _due_at = steps + _every - steps % _every if _every else NEVER
    events.wake_at(step=_due_at if witness is None else 0)


def request(dump: Dump) -> None:
    """A dump is asked for. Called on the agent thread: the main thread comes by at its next loop head."""
    global _pending, _since, _trouble_said, _not_before, _watch
    with _turn:
        if _pending is not None and _pending.leave and not dump.leave:
            return
        _trouble_said = False
        _since = time.monotonic()
        _not_before = 0.0
        _watch = Watch()
        _pending = dump
        hooks.at_safe_point = _consider
        hooks.switch(True)


def _done_with(dump: Dump) -> None:
    """It was answered. Another request may have come meanwhile: that one stands."""
    global _pending
    with _turn:
        if _pending is dump:
            _pending = None
            hooks.at_safe_point = None
            hooks.switch(False)


def answered(message: Saved | Unsaved) -> None:
    """The supervisor is done with a dump. Called on the agent thread."""
    rooms.answered(message.dump)


def replaying() -> bool:
    """A resume is still under way."""
    return hooks.replay is not None


def _harmless(watch: Callable[[Any], None]) -> Callable[[Any], None]:
    """It is called within the program's own calls: whatever goes wrong there is said once, and training goes on."""
    failed = False

    def watched(what: Any) -> None:
        nonlocal failed
        try:
            watch(what)
        except Exception as error:
            events.wake_at(time=time.monotonic() + 1.0)
            if not failed:
                failed = True
                from ckptd_agent import link

                link.send(Said(f"the agent failed to follow the training: {_sentence(error)}"))

    return watched


def _on_step(steps: int) -> None:
    global _reported, _reported_steps
    if steps >= _due_at and _pending is None and not replaying():
        from ckptd_agent import link

        count_from(steps)
        link.send(Due(steps))
    now = time.monotonic()
    if now - _reported >= 1.0:
        from ckptd_agent import link

        done = steps - _reported_steps
        pace = (now - _reported) / done if _reported and done > 0 else None
        if pace is not None:
            _look_ahead(now)
        events.step_seconds = pace
        events.look()
        _reported, _reported_steps = now, steps
        events.wake_at(time=now + 1.0)
        link.send(Progress(steps, None, pace))


def _look_ahead(now: float) -> None:
    """Have a room made ready for the state as it is now: looked at less and less often, as it is walked for that."""
    global _ahead_at, _ahead_wait
    if now >= _ahead_at:
        taking.import_ahead()
        _ahead_at, _ahead_wait = now + _ahead_wait, 4 * _ahead_wait
        rooms.prepare(events.state_bytes())


def _on_outside(record: r.Record | None) -> None:
    """A training event in a loop that is not followed, or (None) in another thread: say it once."""
    global _unlooped
    from ckptd_agent import link

    if record is None:
        text = outside.THREAD
    else:
        text = outside.sentence(sys._getframe(1), record)
        if not text and record is r.root:
            _unlooped += 1
            text = outside.unlooped(sys._getframe(1)) if _unlooped >= UNLOOPED else ""
    if text:
        events.outside = None
        link.send(Said(text, note=True))


def _consider(loop: int, at_end: bool) -> None:
    """The main thread is at a possible safe point."""
    global _not_before
    dump = _pending
    if dump is None or replaying():
        return
    now = time.monotonic()
    if now < _after(dump, PREFERENCE) and not _is_preferred(at_end):
        return
    if now < _not_before:
        return
    if "torch" not in sys.modules:
        return
    if _records():
        return
    found = position.find(position.innermost(sys._getframe(1)))
    if found.trouble:
        _say_trouble(found.trouble)
        return
    try:
        _serve(dump, loop, at_end, found, patient=now < _after(dump, PATIENCE))
    except taking.GraphWaitsError:
        _not_before = min(time.monotonic() + REST * (time.monotonic() - now), _after(dump, PATIENCE))


def _records() -> bool:
    """A CUDA graph is being recorded: who waits for the device now spoils it."""
    cuda: Any = sys.modules["torch"].cuda
    return bool(cuda.is_initialized() and cuda.is_current_stream_capturing())


def _after(dump: Dump, part: float) -> float:
    """When that part of the time up to the deadline is over."""
    return _since + part * max(0.0, dump.deadline - _since)


def _say_trouble(why: str) -> None:
    """Say once a request why this loop's head was not taken: it may be the only kind there is."""
    global _trouble_said
    from ckptd_agent import link

    if not _trouble_said:
        _trouble_said = True
        link.send(Said(f"no checkpoint at this place: {why}; waiting for another"))


def _is_preferred(at_end: bool) -> bool:
    """At the head of the innermost training loop; or where one ends."""
    if not events.steps():
        return False
    return events.is_preferred(hooks.ended_flags if at_end else r.stack[-1][r.FLAGS])


def _serve(dump: Dump, loop: int, at_end: bool, found: position.Position, patient: bool) -> None:
    """Take the dump here; training goes on behind it, or the process ends.

    Raises:
        taking.GraphWaitsError: ``patient``, and this is no good place.
    """
    from ckptd_agent import link, signals

    began = time.monotonic()
    final = _final(loop, at_end)
    path: Path | None = None
    why = ""
    _wait_behind()
    try:
        path = taking.take(
            found, final, dump.dump,
            watch=_watch if patient else None, begun=_teller(dump), later=_answerer(dump, began),
        )  # fmt: skip
    except taking.GraphWaitsError:
        raise
    except Exception as error:  # whatever goes wrong in the agent, training goes on
        why = _sentence(error)
    _done_with(dump)
    if why:
        link.send(Undumped(dump.dump, why))
        return
    if path is not None:
        link.send(Dumped(dump.dump, str(path), events.steps(), time.monotonic() - began))
    if witness is not None:
        witness("dumped")
    if dump.leave:
        spare = DRILL_SPARE if dump.reason == DRILL else 0.0
        answer = link.wait_saved(dump.dump, dump.deadline + spare)
        if answer is not None and type(answer).__name__ == "Saved":
            signals.leave(signals.received())


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if type(error).__module__ == "ckptd.errors" else f"{type(error).__name__}: {text}"


def _final(loop: int, at_end: bool) -> Final:
    from ckptd_agent.graph.document import Final

    if at_end:
        return Final(loop, hooks.ended_ordinal, True, hooks.ended_how)
    return Final(loop, int(r.stack[-1][r.ORDINAL]), False)


def _teller(dump: Dump) -> Callable[[Path], None] | None:
    """Whom to call when the copy begins; None while training goes on: it has the memory's bandwidth to itself."""
    from ckptd_agent import link

    return (lambda path: link.send(Copying(dump.dump, str(path)))) if dump.leave else None


def _answerer(dump: Dump, began: float) -> Later | None:
    """Who answers where the copy is completed behind training; None where nothing is to go on behind it."""
    from ckptd_agent import link

    if dump.leave:
        return None
    steps = events.steps()

    def answer(went_on: float, path: Path | None, error: Exception | None) -> None:
        if path is None:
            link.send(Undumped(dump.dump, _sentence(error or OSError())))
        else:
            link.send(Dumped(dump.dump, str(path), steps, went_on - began))

    return answer


def _wait_behind() -> None:
    """The dump before this one may still be on its way from a device."""
    behind = sys.modules.get("ckptd_agent.device.behind")
    if behind is not None:
        behind.wait()

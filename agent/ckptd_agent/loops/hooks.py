"""The names in builtins that rewritten code calls, and what they do.

While nothing is asked for, ``_ck_on`` is False and only entries and exits of loops run code of ours. A
request or a replay sets it, and then every loop body begins with a call of ``body``.
"""

from __future__ import annotations

import atexit
import builtins
import os
import sys
from _thread import get_ident
from collections.abc import Callable
from itertools import repeat
from typing import Any

from ckptd_agent.loops import ledger
from ckptd_agent.loops import record as r
from ckptd_agent.source import table

at_safe_point: Callable[[int, bool], None] | None = None
"""Called on the main thread while a request is pending: (loop, whether at its end)."""


class Replay:
    """What a replay puts in here; see ckptd_agent.replay."""

    skipped: int
    """How the loop ended that was skipped last."""

    def body(self, loop: int) -> None: ...
    def skip(self, loop: int) -> bool:
        raise NotImplementedError

    def inside(self, loop: int) -> bool:
        raise NotImplementedError

    def branch(self, number: int) -> bool | None:
        raise NotImplementedError

    def past(self, number: int) -> bool:
        raise NotImplementedError

    def open_for(self, loop: int, iterable: Any) -> Any: ...
    def open_while(self, loop: int) -> Any: ...
    def statement(self, module: str, number: int) -> None: ...
    def failed(self) -> bool:
        raise NotImplementedError

    def in_child(self) -> None: ...


replay: Replay | None = None
ended_flags = 0
"""Kinds of training events in the loop at whose end ``at_safe_point`` is called."""
ended_ordinal = 0
"""Ordinal of the loop at whose end ``at_safe_point`` is called."""
ended_how = 0
"""How it ended: exhausted or left by break."""
_exhausted: dict[int, int] = {}
"""By thread: the loop whose exhaustion its else clause is about to ask for."""


_OPENERS: dict[str, Callable[..., Any]] = {
    "_ck_for": r.open_for,
    "_ck_for_in": r.open_nested_for,
    "_ck_while": r.open_while,
    "_ck_while_in": r.open_nested_while,
}


def install() -> None:
    """Put the names in place. They are few, and never begin with two underscores."""
    names: dict[str, Any] = {
        "_ck_on": False,
        **_OPENERS,
        "_ck_body": body,
        "_ck_end": r.end,
        "_ck_ex": r.how,
        "_ck_x": [0],
        "_ck_return": r.leave_by_return,
        "_ck_skip": skip,
        "_ck_inside": inside,
        "_ck_open": is_open,
        "_ck_way": way,
        "_ck_past": past,
        "_ck_failed": failed,
        "_ck_ended": was_returned,
        "_ck_value": returned_value,
        "_ck_else": mark_exhausted,
        "_ck_exhausted": was_exhausted,
        "_ck_statement": statement,
        "_ck_main": as_plain_main,
    }
    r.look_at_end = look_at_end
    for name, value in names.items():
        setattr(builtins, name, value)
    os.register_at_fork(after_in_child=_as_plain_child)
    # Registered before the program's own handlers, it is called after them all.
    atexit.register(_leave_names, names)


def _leave_names(names: dict[str, Any]) -> None:
    """The interpreter's last act restores its builtins, and only then calls ``__del__`` of what still lives."""
    for name in list(table.SOURCES):
        module = sys.modules.get(name)
        if module is not None:
            vars(module).update({**names, "_ck_on": False})


def _as_plain_child() -> None:
    """A forked child (a DataLoader worker) is as plain: for it, no thread is the one that is followed."""
    global at_safe_point
    r.main_thread = -1
    r.stack.append(r.new_record(0, 0, repeat(True, r.BIG), None))
    at_safe_point = None
    if replay is not None:
        replay.in_child()
        end_replay()
    switch(False)


def switch(on: bool) -> None:
    """Let loop bodies call ``body``, or not; may be called from any thread."""
    r.attentive[0] = on
    builtins._ck_on = on  # type: ignore[attr-defined]


def begin_replay(engine: Replay) -> None:
    """From here on loops are opened by the replay."""
    global replay
    replay = engine
    for name in _OPENERS:
        setattr(builtins, name, engine.open_for if "for" in name else engine.open_while)
    switch(True)


def end_replay() -> None:
    """The program runs on its own."""
    global replay
    replay = None
    for name, opener in _OPENERS.items():
        setattr(builtins, name, opener)
    switch(False)
    # Looked at behind that: a request may come in at any moment, and has come before.
    if at_safe_point is not None:
        switch(True)


def body(loop: int) -> None:
    """``_ck_body``: the main thread is at the top of a loop's body."""
    if get_ident() != r.main_thread:
        return
    if replay is not None:
        replay.body(loop)
    elif at_safe_point is not None:
        at_safe_point(loop, False)


def look_at_end(record: r.Record, loop: int) -> None:
    """A loop has ended that holds training events, or while a dump is asked for or a replay goes on."""
    if record[r.LOOP] != loop:
        _untangle(record, loop)
        return
    mark = r.how[0]
    if record[r.FLAGS] & r.LEAVING:
        how = r.RETURNED
    elif mark >> 1 == loop:
        how = mark & 1
    else:  # the mark may have been overwritten by another thread's loop: then nothing is being raised
        how = r.BROKEN if sys.exc_info()[1] is None else r.RAISED
    r.how[0] = 0
    if record[r.FLAGS] & (r.BACKWARD | r.STEP):
        ledger.note(r.stack[-1], loop, record[r.ORDINAL], how, sys._getframe(2))
    if how == r.RETURNED and not r.stack[-1][r.FLAGS] & r.LEAVING:
        r.returned[0] = None  # the last loop that this return leaves: the value is the program's alone
    if at_safe_point is not None and how <= r.BROKEN and replay is None:
        global ended_ordinal, ended_how, ended_flags
        ended_ordinal, ended_how, ended_flags = record[r.ORDINAL], how, record[r.FLAGS]
        at_safe_point(loop, True)


def _untangle(record: r.Record, loop: int) -> None:
    """Loops do not end in the order in which they began: greenlets, or a frame that was thrown away."""
    r.stack.append(record)
    for place in range(len(r.stack) - 1, 0, -1):
        if r.stack[place][r.LOOP] == loop:
            del r.stack[place]
            break
    r.root[r.FLAGS] |= r.TANGLED


def skip(loop: int) -> bool:
    """``_ck_skip``: in a replay, whether the loop is over already."""
    return replay is not None and get_ident() == r.main_thread and replay.skip(loop)


def inside(loop: int) -> bool:
    """``_ck_inside``: in a replay, whether a while loop is entered in mid-iteration, its test long done."""
    return replay is not None and get_ident() == r.main_thread and replay.inside(loop)


_way: bool | None = None


def is_open(number: int) -> bool:
    """``_ck_open``: the condition of an if statement is to be evaluated; in a replay, its outcome may be known."""
    global _way
    if replay is None or get_ident() != r.main_thread:
        return True
    _way = replay.branch(number)
    return _way is None


def way() -> bool:
    """``_ck_way``: that outcome."""
    return bool(_way)


def past(number: int) -> bool:
    """``_ck_past``: in a replay, whether a statement was done before the checkpoint and is left out."""
    return replay is not None and get_ident() == r.main_thread and replay.past(number)


def failed() -> bool:
    """``_ck_failed``: in a replay, whether it goes on behind a statement that has failed."""
    return replay is not None and get_ident() == r.main_thread and replay.failed()


def statement(module: str, number: int) -> None:
    """``_ck_statement``: in a replay, before a statement whose operands wait below a call."""
    if replay is not None and get_ident() == r.main_thread:
        replay.statement(module, number)


def mark_exhausted(loop: int) -> None:
    """``_ck_else``: a loop that has an else clause is exhausted."""
    r.how[0] = 2 * loop
    _exhausted[get_ident()] = loop


def was_exhausted(loop: int) -> bool:
    """``_ck_exhausted``: the loop ran to its end, so its else clause is due."""
    return _exhausted.pop(get_ident(), 0) == loop


def was_returned() -> bool:
    """``_ck_ended``: the loop just skipped was left by return."""
    return replay is not None and replay.skipped == r.RETURNED


def returned_value(loops: int) -> Any:
    """``_ck_value``: what it returned; ``loops`` rewritten loops around it are left by the same return."""
    return r.leave_by_return(loops, r.returned[0])


def as_plain_main() -> None:
    """``_ck_main``: let the main module see what it sees when the interpreter runs it without us."""
    from importlib.machinery import SourceFileLoader

    namespace = sys._getframe(1).f_globals
    namespace["__spec__"] = namespace["__package__"] = namespace["__cached__"] = None
    namespace["__loader__"] = SourceFileLoader("__main__", namespace["__file__"])

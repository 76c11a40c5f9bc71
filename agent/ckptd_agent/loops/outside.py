"""Training in a loop that is not instrumented: where that is, and what can be done about it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType

from ckptd_agent.loops import record as r
from ckptd_agent.loops.position import COMPREHENSIONS, INTERLEAVED, in_loop
from ckptd_agent.source import packages, scan, table

TORCH = frozenset({"torch", "ckptd_agent", "ckptd"})
"""Packages whose loops are part of one step."""
THREAD = "the program trains in a thread of its own: it can't be checkpointed there; on the main thread it could be"


def sentence(frame: FrameType, record: r.Record) -> str:
    """What the user must read about a training event below ``frame``; '' if there is nothing to say.

    ``record`` is the innermost active loop, or the root. Only what runs inside of it matters.
    """
    libraries: list[FrameType] = []
    for each in _frames_within(frame, record):
        if not in_loop(each.f_code, each.f_lasti):
            continue
        if table.source_of(each.f_code) is None:
            libraries.append(each)
        elif record is r.root and not libraries:
            return _own(each)
    if not libraries:
        return ""
    known = [each for each in libraries if _is_package(each)]
    if not known:
        return f"the program trains in a loop that ckptd does not see ({_place(libraries[0])}): {_NOT_THERE}"
    names = list(dict.fromkeys(_top(each) for each in reversed(known)))
    late = [name for name in names if packages.is_instrumented(name)]
    if late:
        return (
            f"the program trains in a loop of {late[0]} ({_place(known[0])}), which was imported before ckptd could "
            f"instrument it: {_NOT_THERE}"
        )
    options = " ".join(f"--instrument {name}" for name in names)
    return (
        f"the program trains in a loop of {' and '.join(names)} ({_place(known[0])}), which ckptd takes for a library: "
        f"{_NOT_THERE} unless it is started with ckptd run {options}"
    )


def unlooped(frame: FrameType) -> str:
    """What is said where training goes on without any loop that can be seen."""
    own = next((each for each in _frames_within(frame, r.root)), None)
    where = f" ({_place(own)})" if own is not None else ""
    return (
        f"the program trains outside of any loop that ckptd sees{where}: {_NOT_THERE}; "
        "steps in a for or while loop of the program's own can be"
    )


_NOT_THERE = "it can't be checkpointed there"


def _frames_within(frame: FrameType, record: r.Record) -> Iterator[FrameType]:
    """Frames of the program and its libraries, from the event outwards to the one that holds the loop."""
    loop = table.LOOPS[record[r.LOOP]]
    each: FrameType | None = frame
    while each is not None:
        source = table.source_of(each.f_code)
        if source is not None and (source.name, each.f_code.co_name) == (loop.key[0], loop.function):
            return
        top = _top(each)
        if source is not None or not (top in TORCH or top in sys.stdlib_module_names or top == ""):
            yield each
        each = each.f_back


def _own(frame: FrameType) -> str:
    """A loop of the user's (or of an instrumented package) that is left as it is."""
    name = frame.f_code.co_name
    if frame.f_code.co_flags & INTERLEAVED:
        what = f"inside the generator {name}"
    elif name in COMPREHENSIONS:
        what = "inside a comprehension"
    elif name in scan.TRACED:
        what = f"inside a method called {name}"
    else:
        what = f"inside {name}, in a loop that ckptd does not follow"
    return (
        f"the program trains {what} ({_place(frame)}): {_NOT_THERE}; "
        "a for or while loop in a plain function can be"
    )


def _top(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__") or "").partition(".")[0]


def _is_package(frame: FrameType) -> bool:
    """The code is of a module that could have been found by the import system."""
    return not frame.f_code.co_filename.startswith("<") and _top(frame) != "__main__"


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"

"""The path to a safe point: the user's frames on the stack, where each stands, and its active loops."""

from __future__ import annotations

import ast
import dis
import linecache
import sys
import textwrap
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from types import CodeType, FrameType
from typing import Any

from ckptd_agent.loops import record as r
from ckptd_agent.loops import variables
from ckptd_agent.loops.ledger import Chain, is_ours
from ckptd_agent.source import table
from ckptd_agent.source.branches import holds
from ckptd_agent.source.effects import INSIDE, may_change
from ckptd_agent.source.scan import may_repeat

INTERLEAVED = 0x20 | 0x80 | 0x200
"""co_flags of generators, coroutines and asynchronous generators (inspect.CO_*)."""
COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>"}


@dataclass
class Place:
    """One of the user's frames on the stack."""

    frame: FrameType
    key: tuple[str, str, int]
    lasti: int
    records: list[r.Record] = field(default_factory=list)
    """Its active loops, outermost first."""
    statement: int = 0
    """Number of the replay hook before the statement that it is in, or 0."""
    through: list[list[Any]] = field(default_factory=list)
    """A library's frames by which it has called the next place, from the inner to the outer: see way_of."""


@dataclass
class Position:
    """All of the user's frames, outermost first; or why this is no place to stop at."""

    places: list[Place]
    trouble: str = ""


def find(frame: FrameType, *, strict: bool = True) -> Position:
    """The position of the main thread, seen from ``frame``, the innermost one of the user's.

    With ``strict``, ``trouble`` says what would keep a resume at this position from being exact.
    """
    places: list[Place] = []
    trouble = _general_trouble() if strict else ""
    each: FrameType | None = frame
    through: list[FrameType] = []
    while each is not None:
        source = table.source_of(each.f_code)
        innermost = each is frame
        if source is not None:
            if any(first <= each.f_lineno <= last for first, last in source.finals):
                trouble = trouble or f"it is inside a finally clause ({source.path}:{each.f_lineno})"
            place = Place(each, table.code_key(each.f_code), each.f_lasti, through=way_of(through))
            if not innermost:
                trouble = trouble or _trouble_of(each, source, place, places[-1].frame.f_code.co_name)
            for library in through if strict else ():
                trouble = trouble or _repeats(library)
            places.append(place)
            through = []
        elif not innermost:
            trouble = trouble or _library_trouble(each)
            through.append(each)
        each = each.f_back
    places.reverse()
    if not _share_out(places):
        trouble = trouble or "the active loops can't be told apart"
    return Position(places, trouble if strict else "")


def innermost(frame: FrameType) -> FrameType:
    """The first frame, from this one outwards, that runs the user's code."""
    while table.source_of(frame.f_code) is None and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _general_trouble() -> str:
    if r.root[r.FLAGS] & r.TANGLED:
        return "loops of several threads of control (greenlets?) interleave"
    if sys.exc_info()[1] is not None:
        return "an exception is being handled"
    for record in r.stack:
        current = r.length_hint(record[r.COUNTER]) == record[r.SEEN]
        for (loop, _), ended in (record[r.LEDGER] or {}).items():
            if current and ended.how == r.RAISED and ended.value is None:
                return f"the training loop at {table.LOOPS[loop].where} was left by an exception"
    return ""


def _trouble_of(frame: FrameType, source: table.Source, place: Place, callee: str) -> str:
    """What is wrong with a stop below this frame of the user's; notes the statement it is in."""
    code = frame.f_code
    where = f"{source.path}:{frame.f_lineno}"
    if code.co_flags & INTERLEAVED:
        return f"it is inside a generator ({where})"
    if code.co_name in COMPREHENSIONS or (code.co_firstlineno, code.co_name) in source.bare:
        return f"it is inside {code.co_name} ({where})"
    call = _call_at(code, frame.f_lasti, source)
    if call is None:
        return f"the call at {where} is not one that can be repeated"
    if not _is_direct(call, callee):
        return f"{call.callee} at {where} is in the middle of calling {callee}"
    place.statement = call.statement
    if call.below == table.DIRTY:
        return f"results of other calls in the statement at {where} would be computed again"
    if call.below == table.NAMES and not call.statement:
        return f"values read before the call at {where} might have changed"
    if call.below == table.NAMES and may_change(_settled(call.reads, frame), callee, source.effects):
        return f"values read before the call at {where} may have been changed by {callee}"
    return ""


def _settled(reads: frozenset[str], frame: FrameType) -> frozenset[str]:
    """Something computed from a number or a text stays, whatever happens inside of objects."""
    own = variables.read(frame)
    left = set()
    for each in reads:
        if not each.startswith("~"):
            left.add(each)
            continue
        first, *attributes = each[1:].split(".")
        value = own.get(first, frame.f_globals.get(first, frame))
        for name in attributes:
            value = getattr(value, "__dict__", {}).get(name, frame)
        if not isinstance(value, bool | int | float | str | bytes | type(None)):
            left.add(INSIDE)
    return frozenset(left)


def spot(frame: FrameType) -> tuple[int, int | None]:
    """Line and column at which a frame stands; no column before 3.11."""
    if sys.version_info < (3, 11):
        return frame.f_lineno, None
    line, _, column, _ = _positions(frame.f_code, frame.f_lasti)
    return line or frame.f_lineno, column


def way_of(through: list[FrameType]) -> list[list[Any]]:
    """A library's frames as msgpack can carry them: a function may be called by several of its ways (Module.apply
    calls it for the module's children first). Frames of this package are not the same in a replay."""
    return [[f.f_code.co_name, f.f_code.co_firstlineno, f.f_lasti] for f in through if not is_ours(f.f_code)]


def chain_of(chain: Chain) -> list[list[Any]]:
    """A ledger entry's callers as msgpack can carry them."""
    return [[*table.code_key(code), lasti] for code, lasti in chain]


def is_direct(function: str, chain: Chain) -> bool:
    """None of the calls of a chain is one of a builtin, or a library, that calls the user's function in its turn."""
    for code, lasti in chain:
        source = table.source_of(code)
        call = _call_at(code, lasti, source) if source is not None else None
        if call is None or not _is_direct(call, function):
            return False
        function = code.co_name
    return True


def _is_direct(call: table.Call, function: str) -> bool:
    """The call is of the function itself, and not of a builtin (``map``, ``sort``) that may call it many times."""
    return call.callee == function or not call.repeats


@lru_cache(maxsize=4096)
def _positions(code: CodeType, lasti: int) -> tuple[int | None, int | None, int | None, int | None]:
    positions: Any = code.co_positions()  # type: ignore[attr-defined, unused-ignore]
    found: tuple[int | None, int | None, int | None, int | None] = next(islice(positions, lasti // 2, None))
    return found


def _line_at(code: CodeType, lasti: int) -> int:
    lines = (line for start, end, line in code.co_lines() if start <= lasti < end)
    return next(lines, None) or code.co_firstlineno


def _call_at(code: CodeType, lasti: int, source: table.Source) -> table.Call | None:
    """The call that a frame is in, with the worst that may lie below it where several fit."""
    if sys.version_info >= (3, 11):
        line, end_line, column, end_column = _positions(code, lasti)
        fits = [
            call
            for call in source.calls.get(end_line or 0, [])
            if call.span[3] == end_column and call.span[:2] <= (line, column)
        ]
        exact = [call for call in fits if call.span[:2] == (line, column)]
        fits = exact or fits
    else:
        line = _line_at(code, lasti)
        every = [call for calls in source.calls.values() for call in calls]
        fits = [call for call in every if call.span[0] <= line <= call.span[2]]
    return max(fits, key=lambda call: (call.below, not call.statement), default=None)


def _library_trouble(frame: FrameType) -> str:
    """A library's frame is run again from its beginning: it must not be in the middle of a loop."""
    code = frame.f_code
    if code.co_flags & INTERLEAVED or in_loop(code, frame.f_lasti):
        return f"it is inside a loop of a library ({code.co_filename}:{frame.f_lineno}, {code.co_name})"
    return ""


def _repeats(frame: FrameType) -> str:
    """A library's frame must not be in a call of something written in C that calls its argument many times."""
    code = frame.f_code
    try:
        tree = ast.parse(textwrap.dedent(_text_at(code, frame.f_lasti)), mode="eval")
    except (SyntaxError, ValueError):
        return ""
    if isinstance(tree.body, ast.Call) and may_repeat(tree.body):
        return f"a library is in the middle of {ast.unparse(tree.body.func)} ({code.co_filename}:{frame.f_lineno})"
    return ""


def _text_at(code: CodeType, lasti: int) -> str:
    """The source of the call that a library's frame is in; before 3.11 the line, '' where there is none."""
    if sys.version_info < (3, 11):
        return linecache.getline(code.co_filename, _line_at(code, lasti)).strip().removeprefix("return ")
    line, end_line, column, end_column = _positions(code, lasti)
    if line is None or end_line is None:
        return ""
    lines = [linecache.getline(code.co_filename, each).encode() for each in range(line, end_line + 1)]
    lines[-1] = lines[-1][:end_column]
    lines[0] = lines[0][column:]
    return b"".join(lines).decode(errors="replace")


@lru_cache(maxsize=256)
def _loop_ranges(code: CodeType) -> list[tuple[int, int]]:
    """Offsets that a jump backwards spans: what lies between is in a loop."""
    jumps = {*dis.hasjrel, *dis.hasjabs}
    return [
        (instruction.argval, instruction.offset)
        for instruction in dis.get_instructions(code)
        if instruction.opcode in jumps and instruction.argval <= instruction.offset
    ]


def in_loop(code: CodeType, lasti: int) -> bool:
    """Whether an instruction lies in a loop, as far as jumps can tell."""
    return any(start <= lasti <= end for start, end in _loop_ranges(code))


def _share_out(places: list[Place]) -> bool:
    """Give each frame its records: a loop that is not nested begins those of another frame."""
    groups: list[list[r.Record]] = []
    for record in r.stack[1:]:
        if table.LOOPS[record[r.LOOP]].nested and groups:
            groups[-1].append(record)
        else:
            groups.append([record])
    for place in reversed(places):
        if groups and all(_holds(place, record) for record in groups[-1]):
            place.records = groups.pop()
    return not groups


def _holds(place: Place, record: r.Record) -> bool:
    loop = table.LOOPS[record[r.LOOP]]
    code = place.frame.f_code
    if loop.function != code.co_name or loop.key[0] != place.key[0]:
        return False
    return holds(loop.active, *spot(place.frame))

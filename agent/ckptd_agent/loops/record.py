"""The stack of active loops on the main thread, and what the rewritten loops call.

A record is a list, because one is made at every entry of a loop and a list is the cheapest thing that
can be changed; the constants below name its places. The number of items that a loop has drawn is kept
by C code: ``compress(ITER, repeat(True, BIG))`` hands the items through and takes one from ``repeat``
for each, so a loop's count is BIG less what ``repeat`` has left.
"""

from __future__ import annotations

from _thread import get_ident as get_ident
from collections.abc import Iterable
from itertools import compress, repeat
from operator import length_hint as length_hint  # re-exported: others ask how much a counter has left
from typing import Any

BIG = 1 << 60

LOOP, ORDINAL, COUNTER, ITEMS, CHILDREN, SEEN, FLAGS, EVENT_AT, EVENTS, LEDGER, HOLDER = range(11)
"""Places of a record. LOOP: its id. ORDINAL: how many times this loop had been entered before within the
parent's current iteration. COUNTER: the ``repeat``. ITEMS: the ``compress``. CHILDREN: entries of loops
within the current iteration, {id: number}, valid while SEEN is the count. FLAGS: kinds of training events
ever seen inside. EVENTS: those seen in iteration EVENT_AT. LEDGER: how training loops inside the current
iteration ended, {(id, ordinal): Ended}. HOLDER: the ``chain`` around the items if they may be exchanged."""

BACKWARD, STEP = 1, 2
"""Kinds of training events, as flags."""
TANGLED = 4
"""Flag of the root record: loops ended out of order, so that nothing can be said of where we are."""
LEAVING = 8
"""Flag of a record: a return is on its way out of the loop."""

EXHAUSTED, BROKEN, RETURNED, RAISED = range(4)
"""How a loop ended."""

Record = list[Any]


def new_record(loop: int, ordinal: int, counter: repeat[bool], items: object) -> Record:
    """A record; open_for builds its own in place."""
    return [loop, ordinal, counter, items, None, -1, 0, -1, 0, None, None]


main_thread = get_ident()
root: Record = new_record(0, 0, repeat(True, BIG), None)
stack: list[Record] = [root]
_push = stack.append
_pop = stack.pop
attentive: list[bool] = [False]
"""Whether ends of loops are looked at that hold no training events: a dump is asked for, or a replay goes on."""
how: list[int] = [0]
"""``_ck_ex``: 2 * id of a loop that is exhausted, 2 * id + 1 of one left by break. Any thread may write it."""
returned: list[Any] = [None]
"""Value of the return that leaves loops at this moment."""


def look_at_end(record: Record, loop: int) -> None:
    """What is done at the end of a loop that matters; hooks puts its own in here."""


def count(record: Record) -> int:
    """Items that the loop has drawn so far."""
    return BIG - length_hint(record[COUNTER])


def next_ordinal(parent: Record, loop: int) -> int:
    """How many times the loop has been entered within the parent's current iteration; counts this entry."""
    left = length_hint(parent[COUNTER])
    if left != parent[SEEN]:
        parent[SEEN] = left
        parent[CHILDREN] = {loop: 1}
        parent[LEDGER] = None
        return 0
    children = parent[CHILDREN]
    ordinal: int = children.get(loop, 0)
    children[loop] = ordinal + 1
    return ordinal


def open_for(loop: int, iterable: Iterable[Any]) -> Iterable[Any]:
    """``_ck_for``: what a rewritten for loop iterates over, the outermost one of its function."""
    if get_ident() != main_thread:
        return iterable
    counter = repeat(True, BIG)
    try:
        items = compress(iterable, counter)
    except TypeError:
        return _not_iterable(loop, iterable)
    parent = stack[-1]
    left = length_hint(parent[COUNTER])
    if left == parent[SEEN]:  # next_ordinal, written out: this is the one hot place
        children = parent[CHILDREN]
        ordinal = children.get(loop, 0)
        children[loop] = ordinal + 1
    else:
        parent[SEEN] = left
        parent[CHILDREN] = {loop: 1}
        parent[LEDGER] = None
        ordinal = 0
    _push([loop, ordinal, counter, items, None, -1, 0, -1, 0, None, None])
    return items


def open_nested_for(loop: int, iterable: Iterable[Any]) -> Iterable[Any]:
    """``_ck_for_in``: the same inside another rewritten loop of the function, whose body it enters but once."""
    if get_ident() != main_thread:
        return iterable
    counter = repeat(True, BIG)
    try:
        items = compress(iterable, counter)
    except TypeError:
        return _not_iterable(loop, iterable)
    _push([loop, 0, counter, items, None, -1, 0, -1, 0, None, None])
    return items


def open_while(loop: int) -> Iterable[Any]:
    """``_ck_while``: what a rewritten while loop iterates over."""
    counter = repeat(True, BIG)
    if get_ident() == main_thread:
        _push(new_record(loop, next_ordinal(stack[-1], loop), counter, counter))
    return counter


def open_nested_while(loop: int) -> Iterable[Any]:
    """``_ck_while_in``: the same inside another rewritten loop of the function."""
    counter = repeat(True, BIG)
    if get_ident() == main_thread:
        _push([loop, 0, counter, counter, None, -1, 0, -1, 0, None, None])
    return counter


def _not_iterable(loop: int, iterable: Iterable[Any]) -> Iterable[Any]:
    """Let the for statement say so itself. Its finally clause finds a record to take away."""
    _push(new_record(loop, 0, repeat(True, BIG), None))
    return iterable


def end(loop: int) -> None:
    """``_ck_end``: a loop is left, in whatever way."""
    if get_ident() == main_thread:
        record = _pop()
        if record[FLAGS] or record[LOOP] != loop or attentive[0]:
            look_at_end(record, loop)
        how[0] = 0


def leave_by_return(loops: int, value: object) -> object:
    """``_ck_return``: a return statement inside ``loops`` rewritten loops of its function."""
    if get_ident() == main_thread:
        for record in stack[-loops:] if loops else ():
            record[FLAGS] |= LEAVING
        returned[0] = value
    return value

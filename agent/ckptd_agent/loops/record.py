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
how: list[int] = [0]
"""``_ck_ex``: 2 * id of a loop that is exhausted, 2 * id + 1 of one left by break. Any thread may write it."""
returned: list[Any] = [None]
"""Value of the return that leaves loops at this moment."""


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
    """``_ck_for``: what a rewritten for loop iterates over."""
    if get_ident() != main_thread:
        return iterable
    counter = repeat(True, BIG)
    try:
        items = compress(iterable, counter)
    except TypeError:
        # Not iterable: let the for statement say so itself. Its finally clause finds a record to take away.
        stack.append(new_record(loop, 0, counter, None))
        return iterable
    stack.append([loop, next_ordinal(stack[-1], loop), counter, items, None, -1, 0, -1, 0, None, None])
    return items


def open_while(loop: int) -> Iterable[Any]:
    """``_ck_while``: what a rewritten while loop iterates over."""
    counter = repeat(True, BIG)
    if get_ident() == main_thread:
        stack.append(new_record(loop, next_ordinal(stack[-1], loop), counter, counter))
    return counter


def leave_by_return(loops: int, value: object) -> object:
    """``_ck_return``: a return statement inside ``loops`` rewritten loops of its function."""
    if get_ident() == main_thread:
        for record in stack[-loops:] if loops else ():
            record[FLAGS] |= LEAVING
        returned[0] = value
    return value

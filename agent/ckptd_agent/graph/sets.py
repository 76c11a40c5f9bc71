"""Sets that are iterated in the order that they had.

The order of a set is that of the slots of its hash table: it hangs on the hashes (the hash seed is kept over
a resume), on the size of the table, and, where elements want the same slot, on which of them came first. So
the slots are found that the saved order stands for, and the elements are put in such that each gets its own.
The rules are CPython's, Objects/setobject.c, the same from 3.10 to 3.13.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Hashable, Iterator
from itertools import islice
from typing import Any

LINEAR_PROBES = 9
PERTURB_SHIFT = 5
MOST_PROBES = 64
"""An element that finds no slot within so many is given up."""
_EMPTY = sys.getsizeof(set())


class Unordered:
    """Sets of one capture whose order nobody can see: what torch's ``named_modules`` has met so far, and the like."""

    def __init__(self) -> None:
        self.ids: set[int] = set()


def table_slots(obj: set[Any] | frozenset[Any]) -> int:
    """How many slots the set's table has."""
    return 8 if (more := sys.getsizeof(obj) - _EMPTY) <= 0 else more // 16


def recipe(values: list[Any], slots: int) -> Any:
    """What ``set(...)`` makes a set of that is iterated in the order of ``values`` and has so many slots, or None."""
    for attempt in _attempts(values, _order_of_insertion(values, slots - 1)):
        if is_like(set(attempt), values, slots):
            return attempt
    return None


def is_like(obj: set[Any] | frozenset[Any], values: list[Any], slots: int) -> bool:
    """The set has these elements in this order, in a table of so many slots."""
    same = len(obj) == len(values) and all(map(_is_same, obj, values))
    return same and table_slots(obj) == slots


def _is_same(a: Any, b: Any) -> bool:
    """One element or two equal ones. (Tensors are hashed by address, and may not be comparable.)"""
    return a is b or (hash(a) == hash(b) and bool(a == b))


def _attempts(values: list[Any], order: list[Any] | None) -> Iterator[Any]:
    """Ways in which programs come to a set; a table grows as it is filled, or is made large at once."""
    for each in (values, order) if order is not None else (values,):
        yield each
        yield set(each)  # copied, into a table that is made for it
        yield dict.fromkeys(each)
        yield set(dict.fromkeys(each))


def _probes(value: Hashable, mask: int) -> Iterator[int]:
    """The slots that an element looks at, in turn."""
    perturb = hash(value) & ((1 << 64) - 1)
    slot = perturb & mask
    while True:
        yield slot
        if slot + LINEAR_PROBES <= mask:
            yield from range(slot + 1, slot + LINEAR_PROBES + 1)
        perturb >>= PERTURB_SHIFT
        slot = (slot * 5 + 1 + perturb) & mask


def _order_of_insertion(values: list[Any], mask: int) -> list[Any] | None:
    """An order in which each element finds the slots before its own taken, those in their first slot first."""
    looked = [list(islice(_probes(value, mask), MOST_PROBES)) for value in values]
    chosen = _rising_slots(looked)
    if chosen is None:
        return None
    owner = {slot: number for number, slot in enumerate(chosen)}
    passed = [seen[: seen.index(slot)] for seen, slot in zip(looked, chosen, strict=True)]
    first: list[int] = []
    rest: list[int] = []
    done: set[int] = set()
    for number in range(len(values)):
        if not _place(number, passed, owner, done, rest if passed[number] else first):
            return None
    return [values[number] for number in (*first, *rest)]


def _rising_slots(looked: list[list[int]]) -> list[int] | None:
    """One slot for each element, in rising order, such that all together look at as few slots as can be."""
    # For each element so far: (slot, cost, place of the state before), rising in slot and falling in cost.
    states: list[list[tuple[int, int, int]]] = [[(-1, 0, -1)]]
    for seen in looked:
        before = states[-1]
        slots = [state[0] for state in before]
        found: dict[int, tuple[int, int, int]] = {}
        for price, slot in enumerate(seen):
            place = bisect_left(slots, slot) - 1
            if place >= 0 and slot not in found:
                found[slot] = (slot, before[place][1] + price, place)
        best: list[tuple[int, int, int]] = []
        for slot in sorted(found):
            if not best or found[slot][1] < best[-1][1]:
                best.append(found[slot])
        if not best:
            return None
        states.append(best)
    chosen: list[int] = []
    place = len(states[-1]) - 1
    for level in reversed(states[1:]):
        slot, _, place = level[place]
        chosen.append(slot)
    return chosen[::-1]


def _place(
    number: int, passed: list[list[int]], owner: dict[int, int], done: set[int], into: list[int]
) -> bool:
    """Append the element behind those whose slots it came by; False if one of these slots is nobody's."""
    waiting = [number]
    while waiting:
        each = waiting[-1]
        if each in done:
            waiting.pop()
            continue
        if any(slot not in owner for slot in passed[each]) or len(waiting) > len(passed):
            return False
        before = [owner[slot] for slot in passed[each] if owner[slot] not in done and passed[owner[slot]]]
        if before:
            waiting.extend(before)
            continue
        done.add(each)
        into.append(each)
        waiting.pop()
    return True

"""Sets that are iterated in the order that they had, where their tables can't be put back (ckptd_agent.graph.tables).

The order of a set is that of the slots of its hash table: it hangs on the hashes (the hash seed is kept over
a resume), on the size of the table, and, where elements want the same slot, on which of them came first. So
the slots are found that the saved order stands for, and the elements are put in such that each gets its own.
The rules are CPython's, Objects/setobject.c, the same from 3.10 to 3.13.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import count, islice, permutations
from typing import Any

from ckptd_agent.graph.tables import probes, table_slots

MOST_PROBES = 64
"""An element that finds no slot within so many is given up."""
Recipe = tuple[list[Any], list[int]]
"""What a set is updated with, step by step, and numbers that are to be discarded from it then."""
FEW = 5
"""So many elements are tried in every order."""


class Unordered:
    """Sets of one capture whose order nobody can see: what torch's ``named_modules`` has met so far, and the like."""

    def __init__(self) -> None:
        self.ids: set[int] = set()


def recipe(values: list[Any], slots: int, *, frozen: bool = False) -> Recipe | None:
    """How a set is made that is iterated in the order of ``values`` and has so many slots; None if it can't be.

    ``frozen``: in one step, and without anything to be discarded.
    """
    order, fillers = _order_of_insertion(values, slots - 1) or (None, [])
    for attempt in _attempts(values, None if fillers else order):
        if is_like(set(attempt), values, slots):
            return [attempt], []
    if order is None or frozen:
        return None
    for more in sorted({0, 1, 2, 3, slots // 8, slots // 4}):  # what has gone, without another trace
        gone = [*fillers, *_numbers_for(islice(_free_slots(values, fillers, slots), more), values, slots)]
        for steps in _steps([*gone, *order], slots):
            if is_like(made(steps, gone), values, slots):
                return steps, gone
    return None


def _free_slots(values: list[Any], fillers: list[int], slots: int) -> Iterator[int]:
    """Slots that nothing looks at first, the last ones first."""
    taken = {hash(each) & (slots - 1) for each in (*values, *fillers)}
    return (slot for slot in reversed(range(slots)) if slot not in taken)


def _numbers_for(slots: Iterable[int], values: list[Any], step: int) -> list[int]:
    """A number for each of the slots, none of them an element."""
    present = {each for each in values if isinstance(each, int | float | complex)}
    return [next(n for n in count(slot, step) if n not in present) for slot in slots]


def made(steps: list[Any], fillers: list[int], into: set[Any] | None = None) -> set[Any]:
    """The set that a recipe makes. What is discarded leaves its slot taken, as where the program has discarded."""
    found: set[Any] = set() if into is None else into
    set.__init__(found)
    for each in steps:
        set.update(found, each)
    for filler in fillers:
        set.discard(found, filler)
    return found


def _steps(order: list[Any], slots: int) -> Iterator[list[Any]]:
    """Ways to a table that is larger than the elements ask for: an update by a dict of what is there already makes it
    so, as one by a set that shares elements does, or as elements did that have gone since."""
    yield [order]
    yield [dict.fromkeys(order)]
    for there in sorted(
        {min(len(order), max(2, slots // 8 + more)) for more in (0, 1, 2, slots // 16, slots // 8)}
    ):
        for again in sorted({there, max(1, slots // 4 - there), 1} & set(range(1, there + 1))):
            yield [order[:there], dict.fromkeys(order[:again]), order[there:]]


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
    if len(values) <= FEW:
        yield from permutations(values)


def _order_of_insertion(values: list[Any], mask: int) -> tuple[list[Any], list[int]] | None:
    """An order in which each element finds the slots before its own taken, those in their first slot first; and
    numbers to be put in before, which take the slots that something had that is gone."""
    looked = [list(islice(probes(hash(value), mask), MOST_PROBES)) for value in values]
    chosen = _rising_slots(looked)
    if chosen is None:
        return None
    owner = {slot: number for number, slot in enumerate(chosen)}
    passed = [seen[: seen.index(slot)] for seen, slot in zip(looked, chosen, strict=True)]
    left = {slot for slots in passed for slot in slots if slot not in owner}
    fillers = _numbers_for(sorted(left), values, mask + 1)
    passed = [[slot for slot in slots if slot not in left] for slots in passed]
    first: list[int] = []
    rest: list[int] = []
    done: set[int] = set()
    for number in range(len(values)):
        if not _place(number, passed, owner, done, rest if passed[number] else first):
            return None
    return [values[number] for number in (*first, *rest)], fillers


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
    """Append the element behind those whose slots it came by; False if they wait for one another."""
    waiting = [number]
    while waiting:
        each = waiting[-1]
        if each in done:
            waiting.pop()
            continue
        if len(waiting) > len(passed):
            return False
        before = [owner[slot] for slot in passed[each] if owner[slot] not in done and passed[owner[slot]]]
        if before:
            waiting.extend(before)
            continue
        done.add(each)
        into.append(each)
        waiting.pop()
    return True

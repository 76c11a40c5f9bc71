"""The hash table of a set, read and written slot by slot.

What a set does next (where it is iterated, what ``pop`` takes, when and how it grows) hangs on the slots that its
elements are in, on those that are taken by what has gone, and on where ``pop`` looks next. So all of it is saved and
put back as it was. The struct is CPython's PySetObject, Include/cpython/setobject.h, the same from 3.10 to 3.13: behind
the object's header lie fill, used, mask, table, hash and finger; the table's entries are pairs of key and hash.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Iterator
from itertools import islice
from typing import Any

LINEAR_PROBES = 9
PERTURB_SHIFT = 5
SMALL = 8
"""Slots of the table that lies in the set itself."""
MOST_SLOTS = 1 << 23
Layout = tuple[bytes, bytes, int]
"""The slots of the elements and those that are taken by what has gone, as rising 32 bit numbers; and the finger."""
_EMPTY = sys.getsizeof(set())
_FILL, _USED, _MASK, _TABLE, _FINGER = 0, 1, 2, 3, 5
_GONE = -1
"""In the place of a hash, which it never is."""


def table_slots(obj: set[Any] | frozenset[Any]) -> int:
    """How many slots the set's table has."""
    return SMALL if (more := sys.getsizeof(obj) - _EMPTY) <= 0 else more // 16


def layout_of(obj: set[Any]) -> Layout | None:
    """Where everything is; None where that can't be seen."""
    fields = _fields(obj)
    if fields is None:
        return None
    entries = memoryview(_entries(fields)).cast("B").cast("q")
    keys, hashes = entries[0::2].tolist(), entries[1::2].tolist()
    taken = [slot for slot, key in enumerate(keys) if key]
    places = array("I", [slot for slot in taken if hashes[slot] != _GONE])
    gone = array("I", [slot for slot in taken if hashes[slot] == _GONE])
    if (len(places), len(places) + len(gone)) != (fields[_USED], fields[_FILL]):
        return None
    return places.tobytes(), gone.tobytes(), fields[_FINGER]


def lay_out(obj: set[Any], values: list[Any], slots: int, layout: Layout) -> bool:
    """Give a set these elements, in the order in which they were iterated, each in its slot.

    False if they can't be found there (their hashes are others now): the set then has them in some order.
    """
    places, gone, finger = array("I", layout[0]), array("I", layout[1]), layout[2]
    _fill_table(obj, values, slots)
    fields = _fields(obj)
    if fields is None or fields[_MASK] + 1 != slots or len(places) != len(values):
        return False
    taken = {*places, *gone}
    if (
        len(taken) != len(places) + len(gone)
        or max(taken, default=0) >= slots
        or not 0 <= finger <= MOST_SLOTS
    ):
        return False
    if not all(_is_found(hash(each), slot, taken, slots) for each, slot in zip(values, places, strict=True)):
        return False
    entries = _entries(fields)
    # The set has its own reference to each key, and the table is the only place that says so: they change places.
    known = {entries[at]: entries[at + 1] for at in range(0, 2 * slots, 2) if entries[at]}
    if not known.keys() >= {*map(id, values)}:
        return False
    table = array("q", bytes(16 * slots))
    for each, slot in zip(values, places, strict=True):
        table[2 * slot], table[2 * slot + 1] = id(each), known[id(each)]
    for slot in gone:
        table[2 * slot], table[2 * slot + 1] = _DUMMY, _GONE
    ctypes.memmove(fields[_TABLE], table.buffer_info()[0], 16 * slots)
    fields[_FILL], fields[_FINGER] = len(taken), finger
    return True


def _fill_table(obj: set[Any], values: list[Any], slots: int) -> None:
    """The elements, in a table of so many slots: an update by a dict makes one for twice as many as it has."""
    set.clear(obj)
    if slots > SMALL:
        count = max(5, slots // 4)
        first = dict.fromkeys(values[:count])
        fillers = [object() for _ in range(count - len(first))]
        set.update(obj, {**first, **dict.fromkeys(fillers)})
        for filler in fillers:  # one by one, as a table that much is taken from at once is made smaller
            set.discard(obj, filler)
        values = values[count:]
    for each in values:
        set.add(obj, each)


def _is_found(hashed: int, place: int, taken: set[int], slots: int) -> bool:
    """Whoever looks for that hash comes to the slot, by slots that are all taken."""
    for slot in islice(probes(hashed, slots - 1), 16 * slots):
        if slot == place:
            return True
        if slot not in taken:
            return False
    return False


def probes(hashed: int, mask: int) -> Iterator[int]:
    """The slots that an element looks at, in turn."""
    perturb = hashed & ((1 << 64) - 1)
    slot = perturb & mask
    while True:
        yield slot
        if slot + LINEAR_PROBES <= mask:
            yield from range(slot + 1, slot + LINEAR_PROBES + 1)
        perturb >>= PERTURB_SHIFT
        slot = (slot * 5 + 1 + perturb) & mask


def _fields(obj: set[Any]) -> Any:
    """The numbers of the set's struct, None if it is not as it is known."""
    if sys.implementation.name != "cpython":
        return None
    fields = (ctypes.c_ssize_t * 6).from_address(id(obj) + object.__basicsize__)
    slots = fields[_MASK] + 1
    if fields[_USED] != len(obj) or slots != table_slots(obj) or not SMALL <= slots <= MOST_SLOTS:
        return None
    return fields if fields[_USED] <= fields[_FILL] < slots else None


def _entries(fields: Any) -> Any:
    return (ctypes.c_ssize_t * (2 * (fields[_MASK] + 1))).from_address(fields[_TABLE])


def _dummy() -> int:
    """The address of what CPython puts into a slot whose element has gone."""
    obj = {0}
    obj.discard(0)
    fields = _fields(obj)
    return next((key for key in _entries(fields)[::2] if key), 0) if fields is not None else 0


_DUMMY = _dummy()

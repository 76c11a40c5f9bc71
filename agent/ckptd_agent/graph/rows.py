"""Many children, or many nodes of one kind, by columns: what Python would do for each object, C does for all.

A million tuples of five are five columns of a million children. Children that are all floats are written as an
array of doubles, all ints as one of 64 bits, all objects as one of the numbers of their nodes.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, compress, islice
from typing import Any, NamedTuple

import msgpack

Child = Any
FEW = 32
"""So many children, or objects of one type, are not worth columns."""
WIDEST = 64
"""Rows of more children are written one behind the other."""
LONGEST = 1024
"""So many children of one object are columns by themselves."""
MARK = "rows"
FLOATS, INTS, REFS = 1, 2, 3
"""Types of msgpack's extensions: 8 bytes each, little endian."""
_CODES = {"d": FLOATS, "q": INTS}


class Refs:
    """Children that all stand for objects: reads as a sequence of ``[number]``."""

    __slots__ = ("numbers",)

    def __init__(self, numbers: array[int]) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Child]:
        return map(list, zip(self.numbers))

    def __getitem__(self, place: Any) -> Any:
        found: Any = self.numbers[place]
        return Refs(found) if isinstance(place, slice) else [found]


class Spread(NamedTuple):
    """Objects of one exact type, taken apart."""

    rows: Sequence[Any]
    """The children of each; the values only if there are names."""
    head: list[Any] = []
    """Parts of the node before the children, the same for all."""
    tail: list[Any] = []
    """Parts behind them."""
    names: list[str] | None = None
    """The keys of all."""


class Rows:
    """The nodes of many objects of one kind."""

    def __init__(
        self,
        kind: str,
        numbers: Refs,
        head: list[Any],
        tail: list[Any],
        names: list[str] | None,
        counts: array[int] | None,
        columns: list[Any],
    ) -> None:
        self.kind = kind
        self.numbers = numbers.numbers
        self.head = head
        self.tail = tail
        self.names = names
        self.counts = counts
        """How many children each has if they differ: then all are in one column, one behind the other."""
        self.columns = columns
        self._places: dict[int, int] = {}
        self._ends: list[int] = []

    def __getitem__(self, part: int) -> Any:
        """The first part of any of the nodes: the kind."""
        return self.kind if part == 0 else self.node(self.numbers[0])[part]

    def has(self, number: int) -> bool:
        """The node of that number is one of these."""
        if not self._places:
            self._places = {each: place for place, each in enumerate(self.numbers)}
            self._ends = list(accumulate(self.counts)) if self.counts is not None else []
        return number in self._places

    def node(self, number: int) -> list[Any]:
        """The node of that number as if the object had been captured alone; KeyError if it is none of these."""
        self.has(number)
        place = self._places[number]
        if self.counts is not None:
            children = list(self.columns[0][self._ends[place] - self.counts[place] : self._ends[place]])
        else:
            children = [column[place] for column in self.columns]
        if self.names is not None:
            children = [each for pair in zip(self.names, children, strict=True) for each in pair]
        return [self.kind, *self.head, children, *self.tail]

    def values(self, numbers: list[int], of: Callable[[Any], list[Any]]) -> list[tuple[Any, ...]]:
        """The restored values of some of the rows, in their order; ``of`` restores a column."""
        if len(numbers) < len(self.numbers):
            wanted = set(numbers)
            left = [number in wanted for number in self.numbers]
        else:
            left = []
        if self.counts is not None:
            flat = iter(of(self.columns[0]))
            rows: Iterable[Any] = (tuple(islice(flat, count)) for count in self.counts)
            return list(compress(rows, left) if left else rows)
        if not self.columns:
            return [()] * len(numbers)
        columns = [of(list(compress(each, left)) if left else each) for each in self.columns]
        return list(zip(*columns, strict=True))


def columns_of(rows: Sequence[Any]) -> tuple[array[int] | None, list[list[Any]]] | None:
    """Lengths if they differ, and the columns; None if the rows are long, and columns by themselves."""
    widths = set(map(len, rows))
    width = max(widths)
    if len(widths) > 1 or width > WIDEST:
        counts = array("q", map(len, rows))
        return (counts, [list(chain.from_iterable(rows))]) if sum(counts) <= LONGEST * len(counts) else None
    flat = list(chain.from_iterable(rows))
    return None, [flat[place::width] for place in range(width)]


def packed(part: Any) -> Any:
    """What msgpack is to write for a column, or for the nodes in columns."""
    if isinstance(part, Rows):
        numbers = Refs(part.numbers)
        return [MARK, part.kind, numbers, part.head, part.tail, part.names, part.counts, part.columns]
    numbers_of = part.numbers if isinstance(part, Refs) else part
    code = REFS if isinstance(part, Refs) else _CODES[part.typecode]
    if sys.byteorder == "big":
        numbers_of = array(numbers_of.typecode, numbers_of)
        numbers_of.byteswap()
    return msgpack.ExtType(code, numbers_of.tobytes())


def unpacked(code: int, data: bytes) -> Any:
    """A column out of a msgpack extension; ValueError if it is none."""
    if code not in (FLOATS, INTS, REFS) or len(data) % 8:
        raise ValueError(f"unknown extension {code}")
    numbers: array[Any] = array("d" if code == FLOATS else "q")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return Refs(numbers) if code == REFS else numbers.tolist()


def laid_out(nodes: list[Any]) -> list[Any]:
    """Nodes by number: Rows stand in the places of all their nodes, an empty kind where there is none."""
    for node in [node for node in nodes if node is not None and node[0] == MARK]:
        rows = Rows(*node[1:])
        for number in rows.numbers:
            if nodes[number] is None:
                nodes[number] = rows
    return [[""] if node is None else node for node in nodes]

"""Breadth-first capture of the graph."""

from __future__ import annotations

import operator
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, compress, repeat
from typing import Any, TypeVar

from ckptd_agent.graph.kind import _BY_TYPE, Child, Kind, kind_of
from ckptd_agent.graph.rows import FEW, Refs, Rows, columns_of

T = TypeVar("T")
_ATOMS = frozenset([type(None), bool, float, str, bytes])
_NUMBERED = _ATOMS | {int}
_LOW, _HIGH = -(1 << 63), 1 << 63
_FIRST, _LAST = 1 << 32, 1 << 47
"""Where addresses of objects lie. An integer there may be one: see ckptd_agent.graph.addresses."""
Children = Any
"""A list of children, or an array of floats or ints, or Refs."""


def _fit(atoms: Iterable[Any]) -> bool:
    """All ints among them have 64 bits, and none may be an address."""
    ints = [each for each in atoms if type(each) is int]
    return min(ints, default=0) >= _LOW and not _may_be_addresses(ints) and max(ints, default=0) < _HIGH


def _may_be_addresses(ints: list[int]) -> bool:
    return max(ints, default=0) >= _FIRST and any(_FIRST <= each < _LAST and not each & 7 for each in ints)


def _nothing() -> tuple[array[int], list[Any]]:
    return array("q"), []


class Capture:
    """Turns objects into nodes. Each object has one node, however often it is reached."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        """By number. None stands for the nodes that are in Rows, which have numbers of their own."""
        self.numbers: dict[int, int] = {}
        """id() of an object to the number of its node."""
        self.kept: list[Any] = []
        """Holds every object met, so that ids stay unique until the capture is over."""
        self.paths: dict[int, str] = {}
        self.storages: dict[str, Any] = {}
        """Name to what the drain copies: see ckptd_agent.drain."""
        self.troubles: list[str] = []
        """Sentences on what can't be carried over: the dump is refused if there is one."""
        self.anchors: dict[str, str] = {}
        """Where an object was met whose hidden state is not captured, and its type."""
        self.dtypes: dict[int, str] = {}
        """id() of a storage to the safetensors name of the first tensor's type that looks at it."""
        self.large: dict[int, int] = {}
        """Number of a node to the integer that it stands for, where that may be an address."""
        self._scratch: dict[type, Any] = {}
        self._kinds: dict[type, Kind] = {}
        self._waiting: dict[type, tuple[array[int], list[Any]]] = defaultdict(_nothing)
        """Numbers and objects that are still to be captured, by type."""

    def child(self, obj: Any) -> Child:
        """The child that stands for an object; the object itself is visited later."""
        cls = type(obj)
        if cls in _ATOMS or (cls is int and _LOW <= obj < _FIRST):
            return obj
        if cls is int and _FIRST <= obj < _HIGH and (obj >= _LAST or obj & 7):
            return obj
        number = self.numbers.get(id(obj))
        if number is None:
            number = len(self.nodes)
            self.numbers[id(obj)] = number
            self.kept.append(obj)
            self.nodes.append(None)
            if cls is int:
                self.large[number] = obj
            numbers, objects = self._waiting[cls]
            numbers.append(number)
            objects.append(obj)
        return [number]

    def children(self, objects: Iterable[Any]) -> Children:
        """The children that stand for several objects."""
        known: Any = objects if type(objects) in (list, tuple) else list(objects)
        if len(known) <= FEW:
            return [self.child(each) for each in known]
        types = set(map(type, known))
        if types == {float}:
            return array("d", known)
        if types <= _ATOMS:
            return list(known)
        if types == {int} and not _may_be_addresses(known):
            try:
                return array("q", known)
            except OverflowError:
                return [self.child(each) for each in known]
        if len(types) == 1 and types != {int}:
            return self._refs(types.pop(), known)
        if types <= _NUMBERED and _fit(known):
            return list(known)
        return [self.child(each) for each in known]

    def _refs(self, cls: type, objects: Sequence[Any]) -> Refs:
        """The children for objects of one type, none of them an atom."""
        ids = list(map(id, objects))
        before, start = len(self.numbers), len(self.nodes)
        found = array("q", map(self.numbers.setdefault, ids, range(start, start + len(ids))))
        new = len(self.numbers) - before
        if new == 0:
            return Refs(found)
        numbers = found
        if new < len(ids):  # the numbers of the others stay without a node
            first_met = list(map(operator.eq, found, range(start, start + len(ids))))
            numbers = array("q", compress(found, first_met))
            objects = list(compress(objects, first_met))
        self.nodes.extend(repeat(None, numbers[-1] + 1 - start))
        self.kept.append(objects)
        waiting = self._waiting[cls]
        waiting[0].extend(numbers)
        waiting[1].extend(objects)
        return Refs(found)

    def items(self, pairs: Iterable[tuple[Any, Any]]) -> Children:
        """Keys and values in turn."""
        return self.children(list(chain.from_iterable(pairs)))

    def run(self) -> None:
        """Visit all that is waiting, and what that leads to: level by level, those of one type together."""
        while self._waiting:
            level, self._waiting = self._waiting, defaultdict(_nothing)
            for cls, (numbers, objects) in level.items():
                if len(objects) <= FEW or not self._spread(cls, numbers, objects):
                    self._capture_each(numbers, objects)

    def _capture_each(self, numbers: Iterable[int], objects: list[Any]) -> None:
        nodes = self.nodes
        for number, obj in zip(numbers, objects, strict=True):
            kind = self._kind(obj)
            nodes[number] = [kind.name, *kind.capture(obj, self)]

    def _spread(self, cls: type, numbers: array[int], objects: list[Any]) -> bool:
        """Capture them by columns, if their kind can."""
        kind = self._kind(objects[0])
        spread = kind.spread(objects, self)
        split = spread and columns_of(spread.rows)
        if not spread or not split:
            return False
        counts, columns = split
        children = [self.children(column) for column in columns]
        parts = (spread.head, spread.tail, spread.names, counts, children)
        self.nodes.append(Rows(kind.name, Refs(numbers), *parts))
        return True

    def alone(self, number: int) -> Any:
        """The node of that number, which from now on stands by itself and may be changed."""
        if self.nodes[number] is None:
            rows = next(each for each in self.nodes if type(each) is Rows and each.has(number))
            self.nodes[number] = rows.node(number)
        return self.nodes[number]

    def _kind(self, obj: Any) -> Kind:
        """The kind of an object; asked for once a type, unless the object gives itself out for another."""
        cls = type(obj)
        kind = _BY_TYPE.get(cls) or self._kinds.get(cls)
        if kind is None:
            kind = kind_of(obj)
            if getattr(obj, "__class__", None) is cls:
                self._kinds[cls] = kind
        return kind

    def scratch(self, cls: type[T]) -> T:
        """The one instance of a kind's own table for this capture."""
        found = self._scratch.get(cls)
        if found is None:
            found = self._scratch[cls] = cls()
        return found

    def trouble(self, sentence: str) -> None:
        """Note something that can't be carried over."""
        self.troubles.append(sentence)

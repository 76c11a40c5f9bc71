"""Breadth-first capture of the graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, TypeVar

from ckptd_agent.graph.kind import _BY_TYPE, Child, Kind, Node, kind_of

T = TypeVar("T")
_ATOMS = frozenset([type(None), bool, float, str, bytes])
_LOW, _HIGH = -(1 << 63), 1 << 63


class Capture:
    """Turns objects into nodes. Each object has one node, however often it is reached."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
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
        self._scratch: dict[type, Any] = {}
        self._waiting: deque[tuple[int, Any, Kind]] = deque()

    def child(self, obj: Any) -> Child:
        """The child that stands for an object; the object itself is visited later."""
        kind = type(obj)
        if kind in _ATOMS or (kind is int and _LOW <= obj < _HIGH):
            return obj
        number = self.numbers.get(id(obj))
        if number is None:
            number = len(self.nodes)
            self.numbers[id(obj)] = number
            self.kept.append(obj)
            self.nodes.append([])
            self._waiting.append((number, obj, _BY_TYPE.get(kind) or kind_of(obj)))
        return [number]

    def children(self, objects: Iterable[Any]) -> list[Child]:
        """The children that stand for several objects."""
        return [self.child(each) for each in objects]

    def items(self, pairs: Iterable[tuple[Any, Any]]) -> list[Child]:
        """Keys and values in turn."""
        return [self.child(each) for pair in pairs for each in pair]

    def run(self) -> None:
        """Visit all that is waiting, and what that leads to."""
        waiting = self._waiting
        nodes = self.nodes
        while waiting:
            number, obj, kind = waiting.popleft()
            nodes[number] = [kind.name, *kind.capture(obj, self)]

    def scratch(self, cls: type[T]) -> T:
        """The one instance of a kind's own table for this capture."""
        found = self._scratch.get(cls)
        if found is None:
            found = self._scratch[cls] = cls()
        return found

    def trouble(self, sentence: str) -> None:
        """Note something that can't be carried over."""
        self.troubles.append(sentence)

"""The object graph of a checkpoint, read without torch, and without importing or calling anything that it names.

What the agent writes is described in docs/engine.md (agent/ckptd_agent/graph). Whatever is not as expected
reads as something without content: a listing shows what can be understood.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import msgpack

from ckptd.errors import DamagedError, RefusedError
from ckptd.store.packed import unpack_whole

NEWEST = 3
"""The highest version of the document that can be read."""
_MARK = "rows"
_REFS = 3
Node = list[Any]
Label = str
"""How a child is reached from its parent: '.name', '[3]', '[#7]' where the key is node 7, or '' if it is the
same to the program."""


class Graph:
    """The nodes of a graph, by number, and what the program's variables refer to."""

    def __init__(self, data: bytes, where: str) -> None:
        """Raises DamagedError, and RefusedError if it is of a newer version."""
        try:
            document = unpack_whole(data)
        except ValueError as error:
            raise DamagedError(f"{where}: the graph can't be read: {error}") from error
        if not isinstance(document, dict) or not isinstance(document.get("version"), int):
            raise DamagedError(f"{where}: the graph is none")
        if document["version"] > NEWEST:
            raise RefusedError(
                f"{where}: the graph has version {document['version']}, this ckptd reads {NEWEST}: update ckptd"
            )
        self._document = document
        nodes = document.get("nodes")
        self._nodes: list[Any] = nodes if isinstance(nodes, list) else []
        self._columns: dict[int, _Columns] = {}
        for node in self._nodes:
            if isinstance(node, list) and len(node) == 8 and node[0] == _MARK:
                columns = _Columns(node)
                self._columns.update((number, columns) for number in columns.places)

    def __len__(self) -> int:
        return len(self._nodes)

    def node(self, number: int) -> Node:
        """The node of that number, kind first; one of kind '' if there is none."""
        columns = self._columns.get(number)
        if columns is not None:
            return columns.node(number)
        node = self._nodes[number] if 0 <= number < len(self._nodes) else None
        return node if isinstance(node, list) and node and isinstance(node[0], str) else [""]

    def is_leaf(self, number: int) -> bool:
        """The node is one of many alike that refer to nothing: plain numbers and texts."""
        columns = self._columns.get(number)
        return columns is not None and columns.leaf

    def scopes(self) -> list[tuple[str, list[tuple[str, Any]]]]:
        """Where variables are, innermost last, and each variable with its child."""
        found: list[tuple[str, list[tuple[str, Any]]]] = []
        for name, items in _items_of(self._document.get("modules")):
            found.append((str(name), [(str(key), child) for key, child in pairs(items)]))
        for place in _list(self._document.get("places")):
            if isinstance(place, dict):
                variables = [(str(key), child) for key, child in pairs(place.get("variables"))]
                found.append((_scope(place.get("key")), variables))
        return found

    def loops(self) -> list[tuple[str, int]]:
        """Where each active loop is, outermost first, and how often it has gone round."""
        return [
            (str(loop.get("where")), loop["count"])
            for place in _list(self._document.get("places"))
            if isinstance(place, dict)
            for loop in _list(place.get("loops"))
            if isinstance(loop, dict) and isinstance(loop.get("count"), int)
        ]

    def class_name(self, child: Any) -> str:
        """'package.Name' of a child that stands for a class; '' if it doesn't."""
        number = reference(child)
        node = self.node(number) if number is not None else [""]
        if node[0] != "class" or len(node) < 3:
            return ""
        return str(node[2]) if node[1] == "builtins" else f"{node[1]}.{node[2]}"

    def children(self, node: Node) -> Iterator[tuple[Label, Any]]:
        """What a node refers to, and how the program would reach it."""
        try:
            yield from _children(self, node)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            return  # not as it should be: it has no more children than could be read


class _Columns:
    """Many nodes of one kind, by columns (agent/ckptd_agent/graph/rows.py)."""

    def __init__(self, node: Node) -> None:
        _, self.kind, numbers, head, tail, names, counts, columns = node
        self.head, self.tail = _list(head), _list(tail)
        self.names = names if isinstance(names, list) else None
        own = enumerate(map(reference, _column(numbers)))
        self.places = {number: place for place, number in own if number is not None}
        self.columns = [_column(each) for each in _list(columns)]
        self.counts = _column(counts) if counts is not None else None
        known = [count for count in self.counts or [] if isinstance(count, int) and count >= 0]
        self.ends = list(accumulate(known)) if self.counts is not None else []
        self.leaf = self.kind in _PLAIN and not any(list in map(type, column) for column in self.columns)

    def node(self, number: int) -> Node:
        place = self.places[number]
        if not isinstance(self.kind, str):
            return [""]
        try:
            if self.counts is not None:
                children = self.columns[0][self.ends[place] - self.counts[place] : self.ends[place]]
            else:
                children = [column[place] for column in self.columns]
        except (IndexError, TypeError):
            return [""]
        if self.names is not None:
            children = [each for pair in zip(self.names, children, strict=False) for each in pair]
        return [self.kind, *self.head, children, *self.tail]


_PLAIN = ("list", "tuple", "set", "frozenset", "deque", "dict")


def _column(part: Any) -> list[Any]:
    """A column: a list of children, or numbers in an extension of msgpack."""
    if isinstance(part, msgpack.ExtType):
        if part.code not in (1, 2, _REFS) or len(part.data) % 8:
            return []
        numbers: array[Any] = array("d" if part.code == 1 else "q")
        numbers.frombytes(part.data)
        return [[number] for number in numbers] if part.code == _REFS else numbers.tolist()
    return _list(part)


def count_of(part: Any) -> int:
    """How many children a part of a node has."""
    return len(_list(part))


def _list(part: Any) -> list[Any]:
    if isinstance(part, msgpack.ExtType):
        return _column(part)
    return part if isinstance(part, list) else []


def _items_of(part: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(part, dict):
        yield from part.items()


def _scope(key: Any) -> str:
    """'module' or 'module.function' of a place's key."""
    parts = [str(part) for part in _list(key)[:2]]
    return ".".join(part for part in parts if part != "<module>")


def pairs(part: Any) -> Iterator[tuple[Any, Any]]:
    """Names and values of a list that holds them in turn."""
    flat = _list(part)
    yield from zip(flat[::2], flat[1::2], strict=False)


def reference(child: Any) -> int | None:
    """The number of the node that a child stands for; None for an atom."""
    if isinstance(child, list) and len(child) == 1 and isinstance(child[0], int):
        return child[0]
    return None


def _indexed(children: Any) -> Iterator[tuple[Label, Any]]:
    for place, child in enumerate(_list(children)):
        yield f"[{place}]", child


def _keyed(items: Any) -> Iterator[tuple[Label, Any]]:
    for key, child in pairs(items):
        number = reference(key)
        if number is not None:
            yield "[key]", key
        yield f"[{key!r}]" if number is None else f"[#{number}]", child


def _named(items: Any) -> Iterator[tuple[Label, Any]]:
    for name, child in pairs(items):
        yield f".{name}", child


_IN_MODULES = ("_parameters", "_buffers", "_modules")


def keeps_parameters(own: Any) -> bool:
    """Whether these are the attributes of a torch module."""
    names = [name for name, _ in pairs(own)]
    return all(name in names for name in _IN_MODULES)


def _attributes(graph: Graph, own: Any, slots: Any) -> Iterator[tuple[Label, Any]]:
    """Attributes; what torch's modules keep in dicts is reached as if it were one."""
    is_module = keeps_parameters(own)
    for name, child in pairs(own):
        number = reference(child)
        if is_module and name in _IN_MODULES and number is not None:
            node = graph.node(number)
            items = node[1] if node[0] == "dict" else node[3] if node[0] == "derived" else []
            yield from _named(items)
        else:
            yield f".{name}", child
    yield from _named(slots)


def _children(graph: Graph, node: Node) -> Iterator[tuple[Label, Any]]:
    kind = node[0]
    if kind in ("list", "tuple", "deque"):
        yield from _indexed(node[1])
    elif kind in ("set", "frozenset"):
        yield from (("{}", child) for child in _list(node[1]))
    elif kind == "dict":
        yield from _keyed(node[1])
    elif kind == "derived":
        yield from _keyed(node[3]) if node[2] == "dict" else _indexed(node[3])
        yield from _attributes(graph, node[5], node[6])
    elif kind == "derived_fixed":
        yield from _indexed(node[3])
        yield from _attributes(graph, node[4], node[5])
    elif kind == "object":
        yield from _attributes(graph, node[2], node[3])
    elif kind in ("raised", "raised_group"):
        yield ".args", node[2]
        yield from _attributes(graph, node[3], node[4])
    elif kind == "tensor":
        yield ".grad", node[8]
        yield from _named(node[9])
    elif kind == "array" and node[1] == "objects":
        yield from _indexed(node[5])
    elif kind in _PLACES:
        for label, place in _PLACES[kind]:
            yield label, node[place]
    elif kind in _LISTS:
        for label, place, named in _LISTS[kind]:
            if named:
                yield from ((f"{label}.{name}", child) for name, child in pairs(node[place]))
            else:
                yield from ((f"{label}[{at}]", child) for at, child in enumerate(_list(node[place])))


_PLACES: dict[str, list[tuple[Label, int]]] = {
    "cell": [("", 2)],
    "method": [(".__self__", 1), (".__func__", 2)],
    "builtin": [(".__self__", 1)],
    "partial": [(".func", 1), (".args", 2), (".keywords", 3), (".__dict__", 4)],
    "weakref": [("()", 1)],
    "proxy": [("", 1)],
    "queue": [(".queue", 3)],
    "loader_iterator": [(".loader", 2)],
    "derived_atom": [("", 2)],
    "reduced": [(".state", 5)],
    "descriptor": [(".__objclass__", 1)],
}
"""Kinds whose nodes have children at certain places."""
_LISTS: dict[str, list[tuple[Label, int, bool]]] = {
    "class": [("", 3, True)],
    "function": [(".closure", 4, False), ("", 7, True)],
    "generator": [("", 4, True), (".stack", 5, False)],
    "iterator": [(".of", 3, False)],
    "rebuilt": [(".args", 2, False)],
    "thread": [("", 5, True)],
}
"""Kinds whose nodes have lists of children, with names between them or not."""

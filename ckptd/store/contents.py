"""What is in a checkpoint, in words: its variables and its tensors. Read without torch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckptd.store.graph import Graph, Node, count_of, keeps_parameters, reference

if TYPE_CHECKING:
    from ckptd.store.reader import OpenCheckpoint

OTHERS = 8
"""So many more places are kept where a tensor is referred to."""
LONGEST = 60
"""Characters of a value."""
ITEM_BYTES = {
    "float64": 8, "int64": 8, "uint64": 8, "complex64": 8, "complex128": 16, "float32": 4, "int32": 4, "uint32": 4,
    "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2, "complex32": 4,
}  # fmt: skip
"""Of torch's types; all others have one byte."""


@dataclass
class TensorView:
    """One tensor, or numpy array, as the graph has it."""

    number: int
    """Of its node."""
    path: str
    """How the program reaches it."""
    kind: str
    """'tensor', 'parameter', 'buffer', the name of a class derived from them, or 'array'."""
    dtype: str
    shape: list[int]
    device: str
    storage: str
    """Name of the storage; '' if it has none of its own (a view of an array, or one of objects)."""
    stride: list[int]
    offset: int
    """In elements."""
    nbytes: int
    """Of its elements, whatever they share."""
    requires_grad: bool = False
    others: list[str] = field(default_factory=list)
    """Further places that refer to it."""
    more: int = 0
    """How many such places there are in all."""


@dataclass(frozen=True)
class Variable:
    """A variable of the program."""

    scope: str
    name: str
    value: str
    """In words."""

    @property
    def path(self) -> str:
        """Scope and name."""
        return f"{self.scope}.{self.name}"


DEEPEST = 200
"""Steps of a way to a tensor that its name has; of a longer one the last."""
WHOLE = 1000
"""What ``read_contents`` advances by in all."""
SOME = 4096
"""Nodes between two words of how far it is."""


def read_contents(checkpoint: OpenCheckpoint, advance: Callable[[int], None] = lambda _: None) -> Contents:
    """What is in a checkpoint. ``advance`` is called with parts of WHOLE. Raises DamagedError, RefusedError."""
    data = checkpoint.graph()
    advance(WHOLE // 5)
    graph = Graph(data, str(checkpoint.path))
    advance(WHOLE // 5)
    rest = WHOLE - 2 * (WHOLE // 5)
    done = 0

    def walked(count: int) -> None:
        nonlocal done
        share = min(rest, rest * count // max(1, len(graph)))
        advance(share - done)
        done = share

    contents = Contents(graph, walked)
    advance(rest - done)
    return contents


class Contents:
    """A graph, walked through once, breadth first: the shortest way to each tensor is its name."""

    def __init__(self, graph: Graph, walked: Callable[[int], None] = lambda _: None) -> None:
        """``walked`` is called with the number of nodes, now and then."""
        self.graph = graph
        self.tensors: dict[int, TensorView] = {}
        """By number of node, in the order of the walk."""
        self._from: dict[int, tuple[int | None, str]] = {}
        found = [(scope, name, child) for scope, own in graph.scopes() for name, child in own]
        self.variables = [Variable(scope, name, self.describe(child)) for scope, name, child in found]
        count = 0
        # Modules first: a weight's name is the one that it has there, not 'optimizer.state[key]'.
        for modules in (True, False):
            waiting: deque[int] = deque()
            for scope, name, child in found:
                if self._is_module(child) is modules:
                    self._meet(child, None, f"{scope}.{name}", waiting)
            while waiting:
                number = waiting.popleft()
                count += 1
                if count % SOME == 0:
                    walked(count)
                for label, child in graph.children(graph.node(number)):
                    self._meet(child, number, self._keyed(label), waiting)

    def _is_module(self, child: Any) -> bool:
        number = reference(child)
        node = self.graph.node(number) if number is not None else [""]
        return node[0] == "object" and len(node) > 2 and keeps_parameters(node[2])

    def _keyed(self, label: str) -> str:
        """A label, its key in words where that is an object."""
        if not label.startswith("[#"):
            return label
        number = int(label[2:-1])
        known = self.tensors.get(number)
        return f"[{known.path}]" if known is not None else f"[<{self.graph.node(number)[0]}>]"

    def _meet(self, child: Any, parent: int | None, label: str, waiting: deque[int]) -> None:
        number = reference(child)
        if number is None or self.graph.is_leaf(number):
            return
        if number not in self._from:
            self._from[number] = parent, label
            waiting.append(number)
            node = self.graph.node(number)
            if node[0] in ("tensor", "array", "memmap"):
                view = _view(self.graph, number, node, self._path(parent, label))
                if view is not None:
                    self.tensors[number] = view
            return
        known = self.tensors.get(number)
        if known is not None:
            known.more += 1
            if len(known.others) < OTHERS:
                known.others.append(self._path(parent, label))

    def _path(self, parent: int | None, label: str) -> str:
        labels = [label]
        while parent is not None:
            if len(labels) == DEEPEST:  # a list whose every item refers to the next one may be a million long
                labels.append("\N{HORIZONTAL ELLIPSIS}")
                break
            parent, above = self._from[parent]
            labels.append(above)
        return "".join(reversed(labels))

    def describe(self, child: Any) -> str:
        """A value in a few words; nothing is called, and no text of more than LONGEST characters comes back."""
        number = reference(child)
        text = _atom(child) if number is None else self._object(self.graph.node(number))
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"

    def _object(self, node: Node) -> str:
        try:
            return self._words(node)
        except (TypeError, ValueError, IndexError, AttributeError):
            return node[0] or "?"

    def _words(self, node: Node) -> str:
        kind = node[0]
        if kind in ("list", "tuple", "set", "frozenset", "deque"):
            return f"{kind} of {count_of(node[1])}"
        if kind == "dict":
            return f"module {node[2]}" if node[2] else f"dict of {count_of(node[1]) // 2}"
        if kind in ("derived", "derived_fixed"):
            count = count_of(node[3]) // (2 if node[2] == "dict" else 1)
            return f"{self.graph.class_name(node[1])} of {count}"
        if kind == "object":
            return self.graph.class_name(node[1]) or "object"
        if kind == "class":
            return f"class {_dotted(node)}"
        if kind in ("module", "file", "torch", "value"):
            return f"{kind} {' '.join(_atom(part) for part in node[1:3])}"
        if kind == "function":
            return f"function {_dotted(node)}"
        view = _view(self.graph, -1, node, "")
        if view is not None:
            grad = ", requires grad" if view.requires_grad else ""
            return f"{view.kind} {view.dtype} {view.shape}{grad}"
        return kind or "?"


def _dotted(node: Node) -> str:
    return ".".join(str(part) for part in node[1:3])


def _atom(child: Any) -> str:
    if isinstance(child, bytes):
        return f"bytes of {len(child)}"
    if isinstance(child, str):
        return repr(child[:LONGEST])
    return repr(child)[: LONGEST + 1] if not isinstance(child, list | dict) else "?"


def _view(graph: Graph, number: int, node: Node, path: str) -> TensorView | None:
    """A tensor's or an array's node as a view; None for another, or one that is not as it should be."""
    try:
        if node[0] == "tensor":
            return _tensor(graph, number, node, path)
        if node[0] == "array":
            return _array(number, node, path)
        if node[0] == "memmap":
            return _map(number, node, path)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError):
        return None
    return None


def _tensor(graph: Graph, number: int, node: Node, path: str) -> TensorView:
    storage = graph.node(_number(node[2]))
    if storage[0] != "storage":
        raise ValueError("no storage")
    dtype, shape = str(node[3]), _counts(node[4])
    name = graph.class_name(node[1]).rpartition(".")[2]
    return TensorView(
        number=number, path=path, kind=name.lower() if name in ("Tensor", "Parameter", "Buffer") else name,
        dtype=dtype, shape=shape, device=str(storage[3]), storage=str(storage[1]),
        stride=[int(step) for step in node[5]], offset=int(node[6]),
        nbytes=math.prod(shape) * ITEM_BYTES.get(dtype, 1), requires_grad=node[7][0] is True,
    )  # fmt: skip


def _array(number: int, node: Node, path: str) -> TensorView:
    dtype, shape = _numpy_type(node[3]), _counts(node[4])
    size, storage, start, stride = _numpy_size(dtype), "", 0, []
    if isinstance(node[1], list):  # one of many small ones in a storage: where it begins, in bytes
        storage, start, stride = str(node[8]), int(node[1][0]) // size, _strides(shape, node[6])
    elif node[1] not in ("view", "objects"):
        storage, stride = str(node[1]), _strides(shape, node[6])
    return TensorView(
        number=number, path=path, kind="array", dtype=dtype, shape=shape, device="cpu", storage=storage,
        stride=stride, offset=start, nbytes=math.prod(shape) * size,
    )  # fmt: skip


def _map(number: int, node: Node, path: str) -> TensorView:
    """An array that is mapped on a file: with its contents, where it may be written."""
    dtype, shape = _numpy_type(node[3]), _counts(node[4])
    storage, axes = "", list(range(len(shape)))
    if node[1] not in ("view", ""):
        storage = str(node[1])
        axes = axes if node[5][4] == "C" else axes[::-1]
    return TensorView(
        number=number, path=path, kind="memmap", dtype=dtype, shape=shape, device="cpu", storage=storage,
        stride=_strides(shape, axes) if storage else [], offset=0, nbytes=math.prod(shape) * _numpy_size(dtype),
    )  # fmt: skip


def _strides(shape: list[int], axes: list[int]) -> list[int]:
    """Steps in elements, of axes that are given from the slowest to the fastest."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(axes):
        strides[axis] = step
        step *= shape[axis]
    return strides


def _number(child: Any) -> int:
    number = reference(child)
    return -1 if number is None else number


def _counts(part: Any) -> list[int]:
    if not isinstance(part, list) or len(part) > 64 or any(not isinstance(n, int) or n < 0 for n in part):
        raise ValueError("no shape")
    return list(part)


def _numpy_type(part: Any) -> str:
    return str(part) if isinstance(part, str) else "record"


def _numpy_size(dtype: str) -> int:
    digits = dtype.lstrip("<>|=").lstrip("abcdefghijklmnopqrstuvwxyzOSUVM?")
    if digits.isdigit() and dtype[:1] in "<>|=":
        return int(digits[:9])
    return 1


def figures(facts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Training figures of a manifest, in the order in which a person wants them."""
    for name in ("loss", "loss_mean", "lr", "step_seconds"):
        if facts.get(name) is not None:
            yield name, facts[name]

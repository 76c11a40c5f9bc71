"""Kinds of objects: how each is captured as a node, matched with a fresh object, and restored.

A node is a list ``[kind name, part, ...]`` of what msgpack can carry. A part that stands for an object is
a *child*: an atom (None, bool, int of 64 bits, float, str, bytes) as it is, or ``[number of a node]``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from ckptd_agent.graph.capture import Capture
    from ckptd_agent.graph.graft import Graft
    from ckptd_agent.graph.rows import Spread

Child = Any
Node = list[Any]

FIRST, KEYED, ITERATORS, GENERATORS = range(4)
"""Order of filling: plain contents; containers that hash their keys; iterators, which draw from what has been
filled; random generators, which that may have moved on."""


class Kind:
    """One kind of object. Subclasses register by being defined."""

    name: ClassVar[str] = ""
    exact: ClassVar[Iterable[type]] = ()
    """Exact types of this kind."""
    mutable: ClassVar[bool] = True
    """A matched fresh object is kept and filled; of an immutable kind, it is kept if nothing differs."""
    turn: ClassVar[int] = FIRST

    def takes(self, obj: Any) -> bool:
        """Whether an object whose exact type no kind names is of this kind."""
        return False

    def capture(self, obj: Any, capture: Capture) -> Node:
        """The parts of the object's node, without the kind's name."""
        raise NotImplementedError

    def spread(self, objects: list[Any], capture: Capture) -> Spread | None:
        """Many objects of one exact type taken apart, to be captured by columns; None: each by itself."""
        return None

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        """Whether a fresh object can be the saved one."""
        return kind_of(fresh) is self

    def keys(self, node: Node) -> list[Child]:
        """Children that must be complete before the object can be filled, because it hashes them."""
        return []

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        """Pair the node's children with those of the fresh object."""

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        """A new object: empty, to be filled, if the kind is mutable (``fresh`` is None), else complete."""
        raise NotImplementedError

    def refresh(self, node: Node, obj: Any, graft: Graft) -> None:
        """Give an object that was complete when it was made its contents once more."""

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        """Give the object its saved contents."""

    def make_rows(self, node: Node, rows: list[tuple[Any, ...]], graft: Graft) -> list[Any]:
        """Make many objects of an immutable kind that can be spread; ``node`` is that of one of them."""
        raise NotImplementedError

    def fill_rows(
        self, node: Node, objects: list[Any], names: list[str], rows: list[Any], graft: Graft
    ) -> None:
        """Fill many objects of a mutable kind that can be spread: they are new and empty."""
        raise NotImplementedError


KINDS: dict[str, Kind] = {}
_BY_TYPE: dict[type, Kind] = {}
_LADDER: list[Kind] = []


def register(*kinds: type[Kind]) -> None:
    """Add kinds; for types that none names, those registered first are asked first."""
    for each in kinds:
        kind = each()
        KINDS[kind.name] = kind
        _LADDER.append(kind)
        for kind_type in each.exact:
            _BY_TYPE[kind_type] = kind


def kind_of(obj: Any) -> Kind:
    """The kind of an object that is not an atom."""
    kind = _BY_TYPE.get(type(obj))
    if kind is None:
        kind = next(each for each in _LADDER if each.takes(obj))
    return kind


def is_atom(obj: Any) -> bool:
    """Whether the object is written as it is."""
    kind = type(obj)
    if kind is int:
        return bool(-(1 << 63) <= obj < (1 << 63))
    return kind in (type(None), bool, float, str, bytes)


def is_child_atom(child: Child) -> bool:
    """Whether a child in a node is an atom."""
    return not isinstance(child, list)

"""Lists, tuples, dicts, sets, deques and what is derived from them."""

from __future__ import annotations

import collections
import sys
from itertools import repeat
from typing import Any

from ckptd_agent.graph.addresses import are_addresses
from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft, kept
from ckptd_agent.graph.instances import (
    attributes,
    match_attributes,
    names_of,
    python_class,
    set_attributes,
    slot_names,
)  # fmt: skip
from ckptd_agent.graph.kind import KEYED, Kind, Node, is_atom, is_child_atom, kind_of, register
from ckptd_agent.graph.rows import Spread
from ckptd_agent.graph.sets import Unordered, is_like, made, recipe
from ckptd_agent.graph.tables import Layout, lay_out, layout_of, table_slots


class List(Kind):
    name = "list"
    exact = (list,)

    def capture(self, obj: list[Any], capture: Capture) -> Node:
        return [capture.children(obj)]

    def spread(self, objects: list[Any], capture: Capture) -> Spread:
        return Spread(objects)

    def match(self, node: Node, fresh: list[Any], graft: Graft) -> None:
        for child, each in zip(node[1], fresh, strict=False):
            graft.pair(child, each)

    def make(self, node: Node, fresh: Any, graft: Graft) -> list[Any]:
        return []

    def fill(self, node: Node, obj: list[Any], graft: Graft) -> None:
        values = graft.values(node[1])
        for place, (old, new) in enumerate(zip(obj, values, strict=False)):
            if type(new) is str and old == new:
                values[place] = old
        obj[:] = values

    def fill_rows(
        self, node: Node, objects: list[Any], names: list[str], rows: list[Any], graft: Graft
    ) -> None:
        for obj, values in zip(objects, rows, strict=True):
            obj.extend(values)


class Tuple(Kind):
    name = "tuple"
    exact = (tuple,)
    mutable = False

    def capture(self, obj: tuple[Any, ...], capture: Capture) -> Node:
        return [capture.children(obj)]

    def spread(self, objects: list[Any], capture: Capture) -> Spread:
        return Spread(objects)

    def match(self, node: Node, fresh: tuple[Any, ...], graft: Graft) -> None:
        for child, each in zip(node[1], fresh, strict=False):
            graft.pair(child, each)

    def make(self, node: Node, fresh: Any, graft: Graft) -> tuple[Any, ...]:
        return _same_or(fresh, tuple(graft.values(node[1])))

    def make_rows(self, node: Node, rows: list[tuple[Any, ...]], graft: Graft) -> list[Any]:
        return rows


def _same_or(fresh: Any, new: tuple[Any, ...]) -> tuple[Any, ...]:
    """The fresh tuple if it holds the very same objects: others may hold it too."""
    if type(fresh) is tuple and len(fresh) == len(new) and all(map(same, fresh, new)):
        return fresh
    return new


def same(a: Any, b: Any) -> bool:
    """One object, or atoms that can't be told apart."""
    return a is b or (is_atom(a) and type(a) is type(b) and repr(a) == repr(b))


class Dict(Kind):
    name = "dict"
    exact = (dict,)
    turn = KEYED

    def capture(self, obj: dict[Any, Any], capture: Capture) -> Node:
        if "__name__" in obj and is_namespace(obj):
            return [[], obj["__name__"]]
        return [capture.items(obj.items()), None]

    def spread(self, objects: list[Any], capture: Capture) -> Spread | None:
        if "__name__" in objects[0]:
            return None
        names = names_of(objects)
        if names is not None:
            return Spread([*map(dict.values, objects)], tail=[None], names=names)
        return None

    def keys(self, node: Node) -> list[Any]:
        children: list[Any] = node[1]
        return children

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return type(fresh) is dict and (node[2] is None or fresh.get("__name__") == node[2])

    def match(self, node: Node, fresh: dict[Any, Any], graft: Graft) -> None:
        match_items(node[1], fresh, graft)

    def make(self, node: Node, fresh: Any, graft: Graft) -> dict[Any, Any]:
        if node[2] is not None:
            return (
                vars(sys.modules[node[2]]) if node[2] in sys.modules else graft.missing(f"module {node[2]}")
            )
        return {}

    def fill(self, node: Node, obj: dict[Any, Any], graft: Graft) -> None:
        if node[2] is not None:
            return  # the user's modules are restored by themselves, others are none of ours
        values = graft.values(node[1])
        new = kept(obj, values[::2], values[1::2])
        dict.clear(obj)
        dict.update(obj, new)

    def fill_rows(
        self, node: Node, objects: list[Any], names: list[str], rows: list[Any], graft: Graft
    ) -> None:
        for obj, values in zip(objects, rows, strict=True):
            obj.update(zip(names, values, strict=True))


def is_namespace(obj: dict[Any, Any]) -> bool:
    """The dict is that of a module."""
    name = obj["__name__"]
    return type(name) is str and getattr(sys.modules.get(name), "__dict__", None) is obj


def match_items(items: list[Any], fresh: dict[Any, Any], graft: Graft) -> None:
    """Pair the values (and object keys) of a dict, by key."""
    objects = [key for key in fresh if not is_atom(key)]
    place = 0
    for key, value in zip(items[::2], items[1::2], strict=True):
        if is_child_atom(key):
            if key in fresh:
                graft.pair(value, fresh[key])
        else:
            graft.pair_key(key, value, fresh)
            if place < len(objects):
                # Behind all other paths: most such keys (parameters, modules) are matched on their own.
                graft.pair_late(key, objects[place])
            place += 1


class Set(Kind):
    name = "set"
    exact = (set,)
    turn = KEYED

    def capture(self, obj: set[Any], capture: Capture) -> Node:
        unordered = id(obj) in capture.scratch(Unordered).ids
        return [capture.children(obj), table_slots(obj), unordered, layout_of(obj)]

    def keys(self, node: Node) -> list[Any]:
        children: list[Any] = node[1]
        return children

    def make(self, node: Node, fresh: Any, graft: Graft) -> set[Any]:
        return set()

    def fill(self, node: Node, obj: set[Any], graft: Graft) -> None:
        ordered = not node[3] and not are_addresses(node[1], graft)
        layout = (node[4][0], node[4][1], node[4][2]) if len(node) > 4 and node[4] else None
        fill_set(obj, graft.values(node[1]), node[2], graft, ordered=ordered, layout=layout)


def fill_set(
    obj: set[Any],
    values: list[Any],
    slots: int,
    graft: Graft,
    *,
    ordered: bool = True,
    layout: Layout | None = None,
) -> None:
    """Give a set its elements such that it is iterated in the saved order, now and as it grows."""
    if is_like(obj, values, slots) and (layout is None or layout_of(obj) == layout):
        return
    if layout is not None and lay_out(obj, values, slots, layout):
        return
    # Elements that are hashed by address have no order to keep. Of others, a table that can't be put back is another's.
    made_of = recipe(values, slots) if layout is None or not ordered else None
    if made_of is None and ordered:
        raise graft.refuse(_NO_ORDER)
    made(*(made_of or ([values], [])), obj)


_NO_ORDER = (
    "a set of the program can't be given back the order that it had (its elements are hashed by address?); "
    "use a list or a dict, or sort it where it is iterated"
)


class FrozenSet(Kind):
    name = "frozenset"
    exact = (frozenset,)
    mutable = False

    def capture(self, obj: frozenset[Any], capture: Capture) -> Node:
        return [capture.children(obj), table_slots(obj)]

    def make(self, node: Node, fresh: Any, graft: Graft) -> frozenset[Any]:
        values = graft.values(node[1])
        if isinstance(fresh, frozenset) and is_like(fresh, values, node[2]):
            return fresh
        made_of = recipe(values, node[2], frozen=True)
        if made_of is None and not are_addresses(node[1], graft):
            raise graft.refuse(_NO_ORDER)
        return frozenset(made_of[0][0] if made_of else values)


class Deque(Kind):
    name = "deque"
    exact = (collections.deque,)

    def capture(self, obj: collections.deque[Any], capture: Capture) -> Node:
        return [capture.children(obj), obj.maxlen]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return type(fresh) is collections.deque and fresh.maxlen == node[2]

    def match(self, node: Node, fresh: collections.deque[Any], graft: Graft) -> None:
        for child, each in zip(node[1], fresh, strict=False):
            graft.pair(child, each)

    def make(self, node: Node, fresh: Any, graft: Graft) -> collections.deque[Any]:
        return collections.deque(maxlen=node[2])

    def fill(self, node: Node, obj: collections.deque[Any], graft: Graft) -> None:
        obj.clear()
        obj.extend(graft.values(node[1]))


_BASES: dict[str, type[Any]] = {
    "list": list, "dict": dict, "set": set, "deque": collections.deque,
}  # fmt: skip
_FIXED: dict[str, type[Any]] = {"tuple": tuple, "frozenset": frozenset}


def _rebuildable(cls: type, bases: dict[str, type[Any]]) -> bool:
    if cls in (collections.OrderedDict, collections.defaultdict):
        return True
    solid: tuple[Any, ...] = (*bases.values(), collections.OrderedDict, collections.defaultdict)
    return issubclass(cls, tuple(bases.values())) and python_class(cls, solid)


def _extra(obj: Any) -> Any:
    """What a container has besides its items. Only asked of those that do: a class's __getattr__ may do anything."""
    if isinstance(obj, collections.defaultdict):
        return obj.default_factory
    if isinstance(obj, collections.deque):
        return obj.maxlen
    if isinstance(obj, set):  # its class may add to its size: those of a plain copy
        return table_slots(set(obj))
    return None


class Derived(Kind):
    """Instances of subclasses of containers: OrderedDict, defaultdict, Counter, the user's own."""

    name = "derived"
    exact = (collections.OrderedDict, collections.defaultdict, collections.Counter)
    turn = KEYED

    def takes(self, obj: Any) -> bool:
        return _rebuildable(type(obj), _BASES)

    def capture(self, obj: Any, capture: Capture) -> Node:
        base = next(name for name, each in _BASES.items() if isinstance(obj, each))
        if base == "dict":
            ordered = isinstance(obj, collections.OrderedDict)  # a C type that keeps an order of its own
            pairs = collections.OrderedDict.items(obj) if ordered else dict.items(obj)
            children = capture.items(pairs)
        else:
            children = capture.children(_BASES[base].__iter__(obj))
        extra = capture.child(_extra(obj))
        return [capture.child(type(obj)), base, children, extra, *attributes(obj, capture)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return kind_of(fresh) is self and graft.is_class(node[1], type(fresh))

    def keys(self, node: Node) -> list[Any]:
        children: list[Any] = node[3]
        return children

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        if node[2] == "dict":
            match_items(node[3], fresh, graft)
        elif node[2] != "set":
            for child, each in zip(node[3], _BASES[node[2]].__iter__(fresh), strict=False):
                graft.pair(child, each)
        if isinstance(fresh, collections.defaultdict):
            graft.pair(node[4], fresh.default_factory)
        match_attributes(node[5], node[6], fresh, graft)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        base = _BASES[node[2]]
        new: Any = base.__new__
        return new(graft.the_class(node[1], base))

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        base = node[2]
        values = graft.values(node[3])
        if base == "dict":
            kind: Any = collections.OrderedDict if isinstance(obj, collections.OrderedDict) else dict
            new = kept(dict(kind.items(obj)), values[::2], values[1::2])
            kind.clear(obj)
            for key, value in new.items():
                kind.__setitem__(obj, key, value)
            if isinstance(obj, collections.defaultdict):
                obj.default_factory = graft.value(node[4])
        elif base == "list":
            list.__setitem__(obj, slice(None), values)
        elif base == "set":
            fill_set(obj, values, graft.value(node[4]), graft)
        else:
            if obj.maxlen != node[4]:
                collections.deque.__init__(obj, (), node[4])
            collections.deque.clear(obj)
            collections.deque.extend(obj, values)
        set_attributes(node[5], node[6], obj, graft)


class DerivedFixed(Kind):
    """Instances of subclasses of tuple and frozenset, named tuples above all."""

    name = "derived_fixed"
    mutable = False

    def takes(self, obj: Any) -> bool:
        return _rebuildable(type(obj), _FIXED)

    def capture(self, obj: Any, capture: Capture) -> Node:
        base = "tuple" if isinstance(obj, tuple) else "frozenset"
        return [
            capture.child(type(obj)),
            base,
            capture.children(_FIXED[base].__iter__(obj)),
            *attributes(obj, capture),
        ]

    def spread(self, objects: list[Any], capture: Capture) -> Spread | None:
        cls = type(objects[0])
        if not issubclass(cls, tuple) or cls.__dictoffset__ or slot_names(cls):
            return None
        return Spread(
            [*map(tuple.__getitem__, objects, repeat(slice(None)))], [capture.child(cls), "tuple"], [[], []]
        )

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return kind_of(fresh) is self and graft.is_class(node[1], type(fresh))

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        if node[2] == "tuple":
            for child, each in zip(node[3], tuple.__iter__(fresh), strict=False):
                graft.pair(child, each)
        match_attributes(node[4], node[5], fresh, graft)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        base = _FIXED[node[2]]
        values = graft.values(node[3])
        if fresh is not None and len(fresh) == len(values) and all(map(same, base.__iter__(fresh), values)):
            obj = fresh
        else:
            new: Any = base.__new__
            obj = new(graft.the_class(node[1], base), values)
        set_attributes(node[4], node[5], obj, graft)
        return obj

    def make_rows(self, node: Node, rows: list[tuple[Any, ...]], graft: Graft) -> list[Any]:
        return [*map(tuple.__new__, repeat(graft.the_class(node[1], tuple)), rows)]


register(List, Tuple, Dict, Set, FrozenSet, Deque, Derived, DerivedFixed)

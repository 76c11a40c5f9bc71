"""Instances of classes that are written in Python: by ``__dict__`` and ``__slots__``."""

from __future__ import annotations

import operator
import types
from collections.abc import Iterable
from itertools import chain, cycle
from typing import Any, ClassVar

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft, kept
from ckptd_agent.graph.kind import KEYED, Kind, Node
from ckptd_agent.graph.rows import WIDEST, Spread

_HEAP = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: the class was made at run time."""
_MISSING = object()


def python_class(cls: type, solid: tuple[type, ...] = ()) -> bool:
    """The class is made by class statements on ``object`` (or on one of the types in ``solid``).

    Heap types of C modules are told apart by their ``__new__`` and by having neither dict nor slots.
    """
    for each in cls.__mro__:
        if each is object or each in solid:
            continue
        if not each.__flags__ & _HEAP or (each.__dictoffset__ == 0 and "__slots__" not in each.__dict__):
            return False
    new: Any = cls.__new__
    return solid != () or new is object.__new__ or isinstance(new, types.FunctionType)


def slot_names(cls: type) -> list[str]:
    """Names of the slots of a class and its bases, as getattr takes them."""
    names: list[str] = []
    for each in cls.__mro__:
        slots = each.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name in ("__dict__", "__weakref__"):
                continue
            mangled = name.startswith("__") and not name.endswith("__")
            names.append(f"_{each.__name__.lstrip('_')}{name}" if mangled else name)
    return names


def instance_dict(obj: Any) -> dict[str, Any]:
    """The object's own ``__dict__``, past properties and __getattribute__ of its class."""
    try:
        found = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}


def names_of(dicts: list[dict[Any, Any]]) -> list[str] | None:
    """The keys that all of the dicts have, in the same order, if they're strings."""
    names = list(dicts[0])
    if not 0 < len(names) <= WIDEST or set(map(len, dicts)) != {len(names)} or set(map(type, names)) != {str}:
        return None
    if all(map(operator.is_, chain.from_iterable(dicts), cycle(names))):
        return names
    if set(map(type, chain.from_iterable(dicts))) != {str}:  # comparing might run code of the program's
        return None
    return names if all(map(names.__eq__, map(list, dicts))) else None


def _slot(obj: Any, name: str) -> Any:
    """What is in a slot, past the class's own __getattr__, which may do anything."""
    try:
        return object.__getattribute__(obj, name)
    except AttributeError:
        return _MISSING


def attributes(obj: Any, capture: Capture) -> list[Any]:
    """Two parts of a node: names and values of the dict, names and values of the slots."""
    own = instance_dict(obj)
    slots = [(name, _slot(obj, name)) for name in slot_names(type(obj))]
    return [
        capture.items(own.items()),
        capture.items((name, value) for name, value in slots if value is not _MISSING),
    ]


def match_attributes(own: list[Any], slots: list[Any], fresh: Any, graft: Graft) -> None:
    """Pair the values of attributes by name."""
    fresh_own = instance_dict(fresh)
    for name, value in zip(own[::2], own[1::2], strict=True):
        if type(name) is str and name in fresh_own:
            graft.pair(value, fresh_own[name])
    for name, value in zip(slots[::2], slots[1::2], strict=True):
        found = _slot(fresh, name)
        if found is not _MISSING:
            graft.pair(value, found)


def set_attributes(own: list[Any], slots: list[Any], obj: Any, graft: Graft) -> None:
    """Give the object exactly the saved attributes."""
    values = graft.values(own)
    if values or instance_dict(obj):
        fresh_own = instance_dict(obj)
        new = kept(fresh_own, values[::2], values[1::2])
        fresh_own.clear()
        fresh_own.update(new)
    names = set(slots[::2])
    for name, value in zip(slots[::2], graft.values(slots[1::2]), strict=True):
        object.__setattr__(obj, name, value)
    for name in slot_names(type(obj)):
        if name not in names and _slot(obj, name) is not _MISSING:
            object.__delattr__(obj, name)


class Instance(Kind):
    name = "object"
    exact: ClassVar[Iterable[type]] = (types.SimpleNamespace,)

    def takes(self, obj: Any) -> bool:
        return python_class(type(obj))

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [capture.child(type(obj)), *attributes(obj, capture)]

    def spread(self, objects: list[Any], capture: Capture) -> Spread | None:
        cls = type(objects[0])
        dicts = [instance_dict(each) for each in objects]
        names = names_of(dicts) if not slot_names(cls) else None
        if names is None:
            return None
        return Spread([*map(dict.values, dicts)], [capture.child(cls)], [[]], names)

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return super().fits(node, fresh, graft) and graft.is_class(node[1], type(fresh))

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        match_attributes(node[2], node[3], fresh, graft)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        cls = graft.the_class(node[1], object)
        return cls() if cls is types.SimpleNamespace else object.__new__(cls)

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        set_attributes(node[2], node[3], obj, graft)

    def fill_rows(
        self, node: Node, objects: list[Any], names: list[str], rows: list[Any], graft: Graft
    ) -> None:
        for obj, values in zip(objects, rows, strict=True):
            instance_dict(obj).update(zip(names, values, strict=True))


class Stateful(Instance):
    """Instances of a library's class that hold something of C, and know themselves how to be stored (an image)."""

    name = "stateful"
    exact = ()

    def takes(self, obj: Any) -> bool:
        cls = type(obj)
        base = next((each for each in cls.__mro__ if "__setstate__" in vars(each)), None)
        if base is None or base.__module__.startswith(("torch", "numpy")) or not hasattr(cls, "__getstate__"):
            return False  # what modules and optimizers would say of themselves is not all that they have
        if not python_class(cls):
            return False
        return any(_is_opaque(value) for value in instance_dict(obj).values())

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [capture.child(type(obj)), capture.child(obj.__getstate__())]

    def spread(self, objects: list[Any], capture: Capture) -> Spread | None:
        return None

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        """What it says of itself is made for us each time."""

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        state = graft.value(node[2])
        graft.fill(KEYED)
        obj.__setstate__(state)


def _is_opaque(value: Any) -> bool:
    """A C object that does not tell its state."""
    cls = type(value)
    if cls.__flags__ & _HEAP and python_class(cls):
        return False
    try:
        value.__reduce_ex__(4)
    except TypeError:
        return not isinstance(value, types.ModuleType | types.GeneratorType | types.FunctionType | type)
    return False

"""Functions, cells, methods, classes, modules and what else has a name in a module."""

from __future__ import annotations

import collections
import enum
import functools
import gc
import sys
import types
import weakref
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.codes import code_of, place_of
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import Kind, Node, kind_of, register
from ckptd_agent.guards import genuine
from ckptd_agent.source import table

_EMPTY = object()
_NAMEDTUPLE = collections.namedtuple("_NAMEDTUPLE", "")


def find_named(module: Any, qualname: Any) -> Any:
    """What a module that is already imported has under a qualified name, or None. Imports nothing."""
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for part in str(qualname).split("."):
        if part == "<locals>" or found is None:
            return None
        found = getattr(found, part, None) if part else found
    return genuine(found)


def is_user_module(name: Any) -> bool:
    """The module is one that was rewritten (or is the main one)."""
    return name == "__main__" or name in table.SOURCES


class Module(Kind):
    name = "module"
    exact = (types.ModuleType,)
    mutable = False

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, types.ModuleType)

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [obj.__name__]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return isinstance(fresh, types.ModuleType) and fresh.__name__ == node[1]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        found = fresh if fresh is not None else sys.modules.get(node[1])
        if found is None:
            raise graft.refuse(
                f"the module {node[1]} has not been imported when the program came to the checkpoint"
            )
        return found


class Class(Kind):
    """Classes are made again by the program; of the user's own, plain attributes are carried over."""

    name = "class"

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, type)

    def capture(self, obj: type, capture: Capture) -> Node:
        if is_local_namedtuple(obj):
            defaults = capture.children(getattr(obj, "_field_defaults", {}).values())
            return [obj.__module__, obj.__qualname__, [], list(getattr(obj, "_fields", ())), defaults]
        return [obj.__module__, obj.__qualname__, capture.items(_plain_attributes(obj))]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return isinstance(fresh, type) and (fresh.__module__, fresh.__qualname__) == (node[1], node[2])

    def match(self, node: Node, fresh: type, graft: Graft) -> None:
        own = dict(_plain_attributes(fresh))
        for name, value in zip(node[3][::2], node[3][1::2], strict=True):
            if name in own:
                graft.pair(value, own[name])

    def make(self, node: Node, fresh: Any, graft: Graft) -> type:
        found = find_named(node[1], node[2])
        if not isinstance(found, type) and len(node) > 4:
            defaults = graft.values(node[5])
            return collections.namedtuple(node[2], node[4], defaults=defaults, module=node[1])
        if not isinstance(found, type):
            raise graft.refuse(
                f"the class {node[1]}.{node[2]} has not been defined when the program came to the checkpoint"
            )
        return found

    def fill(self, node: Node, obj: type, graft: Graft) -> None:
        for name, value in zip(node[3][::2], graft.values(node[3][1::2]), strict=True):
            if obj.__dict__.get(name, _EMPTY) is not value:
                type.__setattr__(obj, name, value)


def is_local_namedtuple(cls: type) -> bool:
    """``collections.namedtuple`` has made it in a function: no name leads to it, and it can be made again."""
    return (
        cls.__bases__ == (tuple,)
        and isinstance(getattr(cls, "_fields", None), tuple)
        and cls.__dict__.keys() - set(cls._fields) <= _NAMEDTUPLE.__dict__.keys()  # type: ignore[attr-defined]
        and find_named(cls.__module__, cls.__qualname__) is not cls
    )


def _plain_attributes(cls: type) -> list[tuple[str, Any]]:
    if not is_user_module(cls.__module__) or issubclass(cls, enum.Enum):
        return []
    skipped = (property, staticmethod, classmethod, types.MemberDescriptorType, types.GetSetDescriptorType)
    return [
        (name, value)
        for name, value in cls.__dict__.items()
        if not (name.startswith("__") and name.endswith("__"))
        and name != "_abc_impl"
        and not isinstance(value, skipped)
    ]


class EnumMember(Kind):
    name = "enum"
    mutable = False

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, enum.Enum)

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [capture.child(type(obj)), obj.name, capture.child(obj.value)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return isinstance(fresh, enum.Enum)

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        graft.pair(node[1], type(fresh))

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        cls = graft.the_class(node[1], enum.Enum)
        return cls[node[2]] if node[2] in cls.__members__ else cls(graft.value(node[3]))


class Function(Kind):
    """A function: its code is the program's, what it holds is carried over."""

    name = "function"
    exact = (types.FunctionType,)

    def capture(self, obj: types.FunctionType, capture: Capture) -> Node:
        user = table.source_of(obj.__code__) is not None
        if not user and find_named(obj.__module__, obj.__qualname__) is obj:
            return [obj.__module__, obj.__qualname__, 0, [], None, None, [], None]
        if is_compilers(obj.__code__):
            own = [
                (name, obj.__dict__[name]) for name in ("_torchdynamo_orig_callable",) if name in obj.__dict__
            ]
            return [obj.__module__, obj.__qualname__, 0, [], None, None, capture.items(own), None]
        return [
            obj.__module__,
            obj.__qualname__,
            obj.__code__.co_firstlineno,
            capture.children(obj.__closure__ or ()),
            capture.child(obj.__defaults__),
            capture.child(obj.__kwdefaults__),
            capture.items(obj.__dict__.items()),
            place_of(obj.__code__, str(obj.__globals__.get("__name__"))),
        ]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        if type(fresh) is not types.FunctionType or [fresh.__module__, fresh.__qualname__] != node[1:3]:
            return False
        if not node[3]:
            return True
        # Several may begin in one line: lambdas in a list.
        place = place_of(fresh.__code__, str(fresh.__globals__.get("__name__")))
        return bool(fresh.__code__.co_firstlineno == node[3] and place == node[8])

    def match(self, node: Node, fresh: types.FunctionType, graft: Graft) -> None:
        for child, cell in zip(node[4], fresh.__closure__ or (), strict=False):
            graft.pair(child, cell)
        graft.pair(node[5], fresh.__defaults__)
        graft.pair(node[6], fresh.__kwdefaults__)
        for name, value in zip(node[7][::2], node[7][1::2], strict=True):
            if name in fresh.__dict__:
                graft.pair(value, fresh.__dict__[name])

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        found = find_named(node[1], node[2])
        if not node[4] and self.fits(node, found, graft):
            return found
        code = code_of(node[8], node[3])
        if code is None or len(code.co_freevars) != len(node[4]):
            raise graft.refuse(
                f"the function {node[1]}.{node[2]} has not been made again when the program came to the checkpoint"
            )
        module = sys.modules[node[8][0]]
        new = types.FunctionType(code, module.__dict__, code.co_name, None, tuple(graft.values(node[4])))
        new.__qualname__ = node[2]
        new.__module__ = node[1]
        return new

    def fill(self, node: Node, obj: types.FunctionType, graft: Graft) -> None:
        graft.values(node[4])
        values = graft.values(node[7])
        if node[3]:
            obj.__defaults__ = graft.value(node[5])
            obj.__kwdefaults__ = graft.value(node[6])
            obj.__dict__.clear()
            obj.__dict__.update(zip(values[::2], values[1::2], strict=True))


def is_compilers(code: types.CodeType) -> bool:
    """The code is part of torch's compiler: what it holds is made again by compiling."""
    return any(f"/torch/{part}/" in code.co_filename for part in ("_dynamo", "_inductor", "_functorch", "fx"))


class Cell(Kind):
    name = "cell"
    exact = (types.CellType,)

    def capture(self, obj: Any, capture: Capture) -> Node:
        try:
            return [True, capture.child(obj.cell_contents)]
        except ValueError:
            return [False, None]

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        try:
            graft.pair(node[2], fresh.cell_contents)
        except ValueError:
            return

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return types.CellType()

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        if node[1]:
            obj.cell_contents = graft.value(node[2])


class Method(Kind):
    """A bound method."""

    name = "method"
    exact = (types.MethodType,)
    mutable = False

    def capture(self, obj: types.MethodType, capture: Capture) -> Node:
        return [capture.child(obj.__self__), capture.child(obj.__func__)]

    def match(self, node: Node, fresh: types.MethodType, graft: Graft) -> None:
        graft.pair(node[1], fresh.__self__)
        graft.pair(node[2], fresh.__func__)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        owner, function = graft.values(node[1:])
        if fresh is not None and fresh.__self__ is owner and fresh.__func__ is function:
            return fresh
        return types.MethodType(function, owner)


class BuiltinMethod(Kind):
    """A method of a builtin object, such as ``items.append``, or a builtin function."""

    name = "builtin"
    exact = (types.BuiltinFunctionType, types.MethodWrapperType)
    mutable = False

    def capture(self, obj: Any, capture: Capture) -> Node:
        owner = obj.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            return [None, *_name_of(obj)]
        return [capture.child(owner), "", obj.__name__]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        if not super().fits(node, fresh, graft):
            return False
        owner = fresh.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            return node[1] is None and node[2:] == _name_of(fresh)
        return node[1] is not None and bool(fresh.__name__ == node[3])

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        graft.pair(node[1], fresh.__self__)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        if node[1] is None:
            found = fresh if fresh is not None else find_named(node[2], node[3])
        else:
            owner = graft.value(node[1])
            if fresh is not None and fresh.__self__ is owner and fresh.__name__ == node[3]:
                return fresh
            found = getattr(owner, node[3], None)
        if not isinstance(found, types.BuiltinFunctionType | types.MethodWrapperType):
            raise graft.refuse(f"the builtin function {node[2]}.{node[3]} is not there")
        return found


def _name_of(function: Any) -> list[str]:
    """Module and name of a builtin function."""
    module = getattr(function, "__module__", None) or "builtins"
    short = (
        find_named(module, function.__name__) is function
    )  # torch.sum calls itself _VariableFunctionsClass.sum
    return [module, function.__name__ if short else function.__qualname__]


class Descriptor(Kind):
    """What a class written in C, or one with slots, has for its methods and fields, such as ``torch.Tensor.add_``."""

    name = "descriptor"
    exact = (
        types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType,
        types.GetSetDescriptorType, types.MemberDescriptorType,
    )  # fmt: skip
    mutable = False

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [capture.child(obj.__objclass__), obj.__name__]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return kind_of(fresh) is self and bool(fresh.__name__ == node[2])

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        graft.pair(node[1], fresh.__objclass__)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        owner = graft.the_class(node[1], object)
        found = fresh if fresh is not None and fresh.__objclass__ is owner else owner.__dict__.get(node[2])
        if not isinstance(found, self.exact):
            raise graft.refuse(f"{owner.__module__}.{owner.__qualname__} has no {node[2]} here")
        return found


class ArrayFunction(Kind):
    """A function of numpy's that is an object: it has no state, and its name leads to it."""

    name = "array_function"
    mutable = False

    def takes(self, obj: Any) -> bool:
        return type(obj).__name__ in ("ufunc", "_ArrayFunctionDispatcher") and _numpys_name(obj) is not None

    def capture(self, obj: Any, capture: Capture) -> Node:
        return list(_numpys_name(obj) or ())

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return kind_of(fresh) is self and _numpys_name(fresh) == tuple(node[1:])

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        found = fresh if fresh is not None else find_named(node[1], node[2])
        if found is None:
            raise graft.refuse(f"{node[1]} has no {node[2]} here")
        return found


def _numpys_name(obj: Any) -> tuple[str, str] | None:
    """Module and name by which it is found."""
    name = getattr(obj, "__name__", "")
    for module in (getattr(obj, "__module__", None), "numpy"):
        if isinstance(module, str) and find_named(module, name) is obj:
            return module, name
    return None


class Partial(Kind):
    name = "partial"
    exact = (functools.partial,)

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [capture.child(part) for part in (obj.func, obj.args, obj.keywords, obj.__dict__)]

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        for child, part in zip(
            node[1:], (fresh.func, fresh.args, fresh.keywords, fresh.__dict__), strict=True
        ):
            graft.pair(child, part)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return functools.partial(_nothing)

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        obj.__setstate__(tuple(graft.values(node[1:])))


def _nothing() -> None:
    """Stands in a partial until it is filled."""


class MappingProxy(Kind):
    """A view that keeps a dict from being changed: of a dict (a dataclass field's metadata) or a class's own."""

    name = "mappingproxy"
    exact = (types.MappingProxyType,)
    mutable = False

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [capture.child(_viewed(obj))]

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        graft.pair(node[1], _viewed(fresh))

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        viewed = graft.value(node[1])
        if fresh is not None and _viewed(fresh) is viewed:
            return fresh
        return viewed.__dict__ if isinstance(viewed, type) else types.MappingProxyType(viewed)


def _viewed(proxy: Any) -> Any:
    """The dict that a mappingproxy shows; of the dict of a class, which is never set, that class."""
    own = proxy.get("__dict__", proxy.get("__weakref__"))
    owner = getattr(own, "__objclass__", None)
    if isinstance(own, types.GetSetDescriptorType) and isinstance(owner, type):
        return owner
    return gc.get_referents(proxy)[0]


class WeakReference(Kind):
    name = "weakref"
    exact = (weakref.ReferenceType, weakref.WeakMethod)
    mutable = False

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [capture.child(obj()) if type(obj) is weakref.ReferenceType else None]

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        if type(fresh) is weakref.ReferenceType:
            graft.pair(node[1], fresh())

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        target = graft.value(node[1])
        if fresh is not None and (target is None or fresh() is target):
            return fresh
        if target is None:
            return weakref.ref(_Gone())
        return weakref.ref(target)


class Proxy(Kind):
    """A weak proxy: what it stands for is found through one of its bound methods."""

    name = "proxy"
    exact = weakref.ProxyTypes
    mutable = False

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [capture.child(_behind(obj))]

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        graft.pair(node[1], _behind(fresh))

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        target = graft.value(node[1])
        if fresh is not None and _behind(fresh) is target:
            return fresh
        return weakref.proxy(_Gone() if target is None else target)


def _behind(proxy: Any) -> Any:
    """The object that a weak proxy stands for, None if it is gone."""
    try:
        return proxy.__repr__.__self__
    except ReferenceError:
        return None


class _Gone:
    """What a dead weak reference pointed to."""


register(
    Module,
    EnumMember,
    Class,
    Function,
    Cell,
    Method,
    BuiltinMethod,
    Descriptor,
    ArrayFunction,
    Partial,
    MappingProxy,
    WeakReference,
    Proxy,
)

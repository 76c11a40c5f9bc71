"""What is made again by the program and never stored: locks, threads, sockets, loggers, compiled code.

And the way for all other objects of C types: their reduce protocol, with its parts as nodes.
"""

from __future__ import annotations

import copyreg
import datetime
import decimal
import fractions
import inspect
import os
import pathlib
import re
import sys
import types
import uuid
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.instances import python_class
from ckptd_agent.graph.kind import KEYED, Kind, Node, register

HANDLED_ELSEWHERE = (
    "logging", "threading", "_thread", "multiprocessing", "concurrent", "asyncio", "socket", "selectors", "ssl",
    "subprocess", "importlib", "_frozen_importlib", "ctypes", "zmq", "ckptd_agent", "torch._dynamo",
    "torch._inductor", "torch.fx", "torch._C", "torch.distributed", "torch.utils._contextlib", "unittest", "weakref",
    "warnings", "contextlib", "contextvars", "signal", "queue", "argparse._", "inspect", "traceback", "site", "codecs",
)  # fmt: skip
"""Modules whose instances are anchors."""
NOT_ANCHORS = {"Event", "Namespace", "Semaphore", "BoundedSemaphore", "ExitStack"}
INERT = (
    "torch", "triton", "numba", "_csv", "_struct", "lmdb", "h5py", "_cffi_backend", "sqlite3", "_socket",
    "_ssl", "_asyncio", "_contextvars", "_abc", "select", "pynvml", "builtins.PyCapsule",
    "builtins.method-wrapper", "builtins.super",
)  # fmt: skip
"""Modules whose objects tell nothing of their state, but are as the program makes them, or stand for what lies
outside of it: files, sockets, devices."""
REBUILT = (
    datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone, decimal.Decimal,
    fractions.Fraction, uuid.UUID, pathlib.PurePath, range, slice, complex, int, float, str, bytes,
)  # fmt: skip
"""Types whose objects are built again by calling the type with what reduce gave: none of them does anything else."""
_PARAMETERS: Any = type(inspect.Parameter.KEYWORD_ONLY)


class Number(Kind):
    """Integers beyond 64 bits, complex numbers, ranges, slices, ellipsis, and instances of subclasses of atoms."""

    name = "value"
    exact = (int, complex, range, slice, type(Ellipsis), type(NotImplemented), re.Pattern)
    mutable = False

    def capture(self, obj: Any, capture: Capture) -> Node:
        if isinstance(obj, int):
            return ["int", hex(obj)]
        if isinstance(obj, complex):
            return ["complex", obj.real, obj.imag]
        if isinstance(obj, range | slice):
            return [type(obj).__name__, *capture.children((obj.start, obj.stop, obj.step))]
        if isinstance(obj, re.Pattern):
            return ["pattern", capture.child(obj.pattern), int(obj.flags)]
        return ["ellipsis" if obj is Ellipsis else "notimplemented"]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        match node[1]:
            case "int":
                return int(node[2], 16)
            case "complex":
                return complex(node[2], node[3])
            case "range":
                return range(*graft.values(node[2:]))
            case "slice":
                return slice(*graft.values(node[2:]))
            case "pattern":
                return re.compile(graft.value(node[2]), node[3])
            case "ellipsis":
                return Ellipsis
            case _:
                return NotImplemented


class DerivedAtom(Kind):
    """Instances of the user's subclasses of int, float, str and bytes."""

    name = "derived_atom"
    mutable = False
    bases = (int, float, str, bytes)

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, self.bases) and type(obj) not in self.bases and type(obj).__module__ != "numpy"

    def capture(self, obj: Any, capture: Capture) -> Node:
        base = next(each for each in self.bases if isinstance(obj, each))
        own = getattr(obj, "__dict__", {})
        return [capture.child(type(obj)), capture.child(base(obj)), capture.items(own.items())]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        value = graft.value(node[2])
        cls = graft.the_class(node[1], type(value))
        if type(fresh) is cls and type(value)(fresh) == value:
            return fresh
        obj = type(value).__new__(cls, value)
        values = graft.values(node[3])
        if values:
            own: Any = obj.__dict__
            own.update(zip(values[::2], values[1::2], strict=True))
        return obj


class Anchor(Kind):
    """An object that must have been made again by the program, in the same place."""

    name = "anchor"
    exact = (
        types.CodeType, types.FrameType, types.TracebackType, property, staticmethod, classmethod, memoryview,
        types.CoroutineType, types.AsyncGeneratorType,
    )  # fmt: skip

    def takes(self, obj: Any) -> bool:
        cls = type(obj)
        if cls.__name__ in NOT_ANCHORS:
            return False
        module = cls.__module__ or ""
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(obj, torch.nn.Module):
            return cls.__name__.startswith("GraphModule")
        return any(
            module == name or module.startswith((name + ".", name + "._")) for name in HANDLED_ELSEWHERE
        )

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [f"{type(obj).__module__}.{type(obj).__qualname__}"]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return bool(f"{type(fresh).__module__}.{type(fresh).__qualname__}" == node[1])

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.missing(node[1])

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        """An anchor is left as the program made it."""


class Rebuilt(Kind):
    """Dates, paths, decimals and the like: the type is called again with what reduce gave."""

    name = "rebuilt"
    mutable = False

    def takes(self, obj: Any) -> bool:
        if isinstance(obj, REBUILT):
            return True
        parts = reduce(obj) if not python_class(type(obj)) else None
        return (
            parts is not None and parts[0] is type(obj) and parts[2] is None and not hasattr(obj, "__next__")
        )

    def capture(self, obj: Any, capture: Capture) -> Node:
        _, args, _ = reduce(obj) or (None, (), None)
        return [capture.child(type(obj)), capture.children(args)]

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        for child, part in zip(node[2], _arguments(fresh), strict=False):
            graft.pair(child, part)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        cls = graft.the_class(node[1], object)
        args = graft.values(node[2])
        graft.fill(KEYED)
        if fresh is not None and type(fresh) is cls and alike(tuple(args), tuple(_arguments(fresh))):
            return fresh
        return cls(*args)


def _arguments(obj: Any) -> tuple[Any, ...]:
    return (reduce(obj) or (None, (), None))[1]


class Reduced(Kind):
    """Any other object: matched with the fresh one, which must then say the same of itself, or take the state."""

    name = "reduced"
    turn = KEYED

    def takes(self, obj: Any) -> bool:
        return True

    def capture(self, obj: Any, capture: Capture) -> Node:
        cls = type(obj)
        name = f"{cls.__module__}.{cls.__qualname__}"
        parts = reduce(obj)
        if parts is None:
            return [name, capture.child(cls), False, [], self._unread(obj, name, capture)]
        _, args, state = parts
        return [name, capture.child(cls), True, capture.children(args), capture.child(state)]

    def _unread(self, obj: Any, name: str, capture: Capture) -> str:
        """What can be seen of an object that does not tell its state; one that may have some is a trouble."""
        seen = fingerprint(obj)
        if hasattr(obj, "__next__"):
            capture.trouble(
                f"how far an iterator of type {name} has come can't be read: make a list of it first"
            )
        elif not seen and not name.startswith(INERT) and name not in remade():
            capture.trouble(
                f"the state of an object of type {name} can't be read; if it is always as the program makes it, "
                f"say so with --remade {name}"
            )
        if not seen:
            capture.anchors.setdefault(name, "its state can't be read")
        return seen

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return graft.is_class(node[2], type(fresh))

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        parts = reduce(fresh)
        if parts is not None:
            for child, part in zip(node[4], parts[1], strict=False):
                graft.pair(child, part)
            graft.pair(node[5], parts[2])

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.missing(node[1])

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        if not node[3]:
            if node[5] != fingerprint(obj) and not graft.lenient:
                raise graft.refuse(_OTHER_STATE.format(node[1]))
            return
        args, state = graft.values(node[4]), graft.value(node[5])
        graft.fill(KEYED)
        settable = state is not None and hasattr(obj, "__setstate__")
        if settable:
            obj.__setstate__(state)
        parts = reduce(obj)
        if parts is None or not alike(tuple(args), parts[1]) or not (settable or alike(state, parts[2])):
            raise graft.refuse(_OTHER_STATE.format(node[1]))


_OTHER_STATE = "an object of type {} has another state than at the checkpoint, and none that can be set"


def remade() -> set[str]:
    """Types that the user has named with --remade."""
    return {*os.environ.get("CKPTD_REMADE", "").split(",")} - {""}


def fingerprint(obj: Any) -> str:
    """What can be seen of the state of an object that does not tell it: the digest of a hash so far; or ''."""
    if hasattr(obj, "digest_size") and hasattr(obj, "copy"):
        return f"{obj.name} {obj.hexdigest(*([16] if not obj.digest_size else []))}"
    return ""


class Signature(Kind):
    """Of a function: libraries keep it with their objects. It is a plain value, made of what it says."""

    name = "signature"
    exact = (inspect.Signature,)
    mutable = False

    def capture(self, obj: inspect.Signature, capture: Capture) -> Node:
        return [capture.child(obj.return_annotation), capture.children(obj.parameters.values())]

    def make(self, node: Node, fresh: Any, graft: Graft) -> inspect.Signature:
        new = inspect.Signature(graft.values(node[2]), return_annotation=graft.value(node[1]))
        return fresh if type(fresh) is inspect.Signature and fresh == new else new


class Parameter(Kind):
    """Of a signature."""

    name = "parameter"
    exact = (inspect.Parameter,)
    mutable = False

    def capture(self, obj: inspect.Parameter, capture: Capture) -> Node:
        return [obj.name, int(obj.kind), capture.child(obj.default), capture.child(obj.annotation)]

    def make(self, node: Node, fresh: Any, graft: Graft) -> inspect.Parameter:
        default, annotation = graft.values(node[3:])
        new = inspect.Parameter(node[1], _PARAMETERS(node[2]), default=default, annotation=annotation)
        return fresh if type(fresh) is inspect.Parameter and fresh == new else new


def reduce(obj: Any) -> tuple[Any, tuple[Any, ...], Any] | None:
    """What an object says of itself by the reduce protocol: function, arguments, state; None if nothing."""
    try:
        reduced = obj.__reduce_ex__(4)
    except Exception:  # whatever its own code raises: the object has no state that could be had
        return None
    if not isinstance(reduced, tuple):
        return None
    function, args, state = (*reduced, None)[:3]
    if function is copyreg.__newobj__:  # type: ignore[attr-defined]
        function, args = args[0], args[1:]
    if any(part is not None for part in reduced[3:5]):
        state = (state, *(None if part is None else list(part) for part in reduced[3:5]))
    return function, args, state


def alike(a: Any, b: Any) -> bool:
    """Two values can't be told apart: the same object, equal atoms, or tuples of such."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(alike, a.values(), b.values()))
    return isinstance(a, bool | int | float | complex | str | bytes) and repr(a) == repr(b)


register(Number, DerivedAtom, Signature, Parameter)

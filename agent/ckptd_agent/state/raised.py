"""Exceptions that a program keeps: ``except Bad as error: last = error``.

Their tracebacks are not carried over, for they hold frames: that of an exception that the replay has raised again
stays, one that is made has none.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft, is_gone
from ckptd_agent.graph.instances import _HEAP, attributes, match_attributes, set_attributes
from ckptd_agent.graph.kind import Kind, Node, register

_MISSING = object()
_LINKS = ("__cause__", "__context__", "__suppress_context__")
"""In this order: who sets the cause suppresses the context."""
_OWN: Any = vars(BaseException)
"""Looked at here, past properties of the program's classes."""


class Raised(Kind):
    """Exceptions: class, arguments, attributes and notes, fields of C, and what they came of."""

    name = "raised"

    def takes(self, obj: Any) -> bool:
        return issubclass(type(obj), BaseException) and not _is_group(type(obj))  # a mock may claim to be one

    def capture(self, obj: BaseException, capture: Capture) -> Node:
        if _OWN["__traceback__"].__get__(obj) is not None:
            capture.anchors.setdefault(_name(type(obj)), "an exception's traceback is not carried over")
        fields = [(name, _field(obj, field)) for name, field in _fields(type(obj)).items()]
        return [
            capture.child(type(obj)),
            capture.child(_OWN["args"].__get__(obj)),
            *attributes(obj, capture),
            capture.items((name, value) for name, value in fields if value is not _MISSING),
            capture.children([_OWN[name].__get__(obj) for name in _LINKS]),
        ]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return super().fits(node, fresh, graft) and graft.is_class(node[1], type(fresh))

    def match(self, node: Node, fresh: BaseException, graft: Graft) -> None:
        graft.pair(node[2], _OWN["args"].__get__(fresh))
        match_attributes(node[3], node[4], fresh, graft)
        fields = _fields(type(fresh))
        for name, value in zip(node[5][::2], node[5][1::2], strict=True):
            if name in fields:
                graft.pair(value, _field(fresh, fields[name]))
        for name, value in zip(_LINKS, node[6], strict=True):
            graft.pair(value, _OWN[name].__get__(fresh))

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return _new(graft.the_class(node[1], BaseException), graft)

    def fill(self, node: Node, obj: BaseException, graft: Graft) -> None:
        _OWN["args"].__set__(obj, graft.value(node[2]))
        set_attributes(node[3], node[4], obj, graft)
        values, fields = graft.values(node[5]), _fields(type(obj))
        for name, value in zip(values[::2], values[1::2], strict=True):
            if name in fields:
                _set_field(obj, name, fields[name], value)
        for name, value in zip(_LINKS, graft.values(node[6]), strict=True):
            if not is_gone(value):
                _OWN[name].__set__(obj, value)


class RaisedGroup(Raised):
    """Groups of exceptions, whose message and members can't be set: each is made anew, around members yet empty."""

    name = "raised_group"

    def takes(self, obj: Any) -> bool:
        return _is_group(type(obj))

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [*super().capture(obj, capture), capture.child(obj.message), capture.children(obj.exceptions)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return False

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        cls = graft.the_class(node[1], _group())
        return _new(cls, graft, graft.value(node[7]), graft.values(node[8]))


def _new(cls: type[BaseException], graft: Graft, *args: Any) -> Any:
    """One with nothing in it, and never by a __new__ or __init__ of the program's, which may do anything."""
    base: Any = cls
    while (
        base.__flags__ & _HEAP
    ):  # not by the MRO: the class whose layout it has need not be the first one there
        base = base.__base__
    try:
        return base.__new__(cls, *args)
    except (
        TypeError,
        ValueError,
    ):  # a class of C that wants arguments; a member of a group that is not there
        return graft.missing(_name(cls))


def _group() -> type[BaseException]:
    """BaseExceptionGroup, which Python 3.10 does not have."""
    found: type[BaseException] = vars(sys.modules["builtins"]).get("BaseExceptionGroup", _NoGroup)
    return found


class _NoGroup(BaseException):
    """No exception is one of these."""


def _is_group(cls: type) -> bool:
    return issubclass(cls, _group())


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _fields(cls: type) -> dict[str, Any]:
    """What classes of C keep besides: errno, value, filename, ...; by name, and how each is read and set."""
    found: dict[str, Any] = {}
    for each in cls.__mro__:
        if each.__flags__ & _HEAP or each in (BaseException, object, _group()):
            continue
        for name, field in vars(each).items():
            if type(field) in (types.MemberDescriptorType, types.GetSetDescriptorType) and name[:2] != "__":
                found.setdefault(name, field)
    return found


def _field(obj: BaseException, field: Any) -> Any:
    try:
        return field.__get__(obj)
    except (AttributeError, TypeError):  # it has not been set, and is not one that reads as None then
        return _MISSING


def _set_field(obj: BaseException, name: str, field: Any, value: Any) -> None:
    """Set a field, or leave it empty: that reads as None too, but what an exception says of itself may tell the two
    apart. OSError sets its first two together with its arguments, be they None."""
    given = name in ("errno", "strerror") and len(_OWN["args"].__get__(obj)) == 2
    if value is not None or given:
        field.__set__(obj, value)
    elif _field(obj, field) is not None:
        field.__delete__(obj)


register(RaisedGroup, Raised)

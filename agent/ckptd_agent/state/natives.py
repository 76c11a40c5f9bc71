"""Objects with a state that no attribute shows: memory of ctypes, variables of a context or of a thread."""

from __future__ import annotations

import _thread
import ctypes
import sys
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import KEYED, Kind, Node, register

_PLAIN: Any = (ctypes.c_int.__base__, ctypes.Array, ctypes.Structure, ctypes.Union)
POINTERS = "PzZO"
"""Codes of simple ctypes types whose value is an address."""


class CMemory(Kind):
    """A ctypes number, array or structure: its bytes."""

    name = "ctypes"

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, _PLAIN)

    def capture(self, obj: Any, capture: Capture) -> Node:
        if _points(type(obj)):
            capture.trouble(
                f"a ctypes object that holds pointers ({type(obj).__name__}) can't be carried over"
            )
        return [type(obj).__name__, bytes(memoryview(obj).cast("B"))]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return self.takes(fresh) and [type(fresh).__name__, ctypes.sizeof(fresh)] == [node[1], len(node[2])]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.missing(f"ctypes object {node[1]}")

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        ctypes.memmove(ctypes.addressof(obj), node[2], len(node[2]))


def _points(cls: Any) -> bool:
    """Whether memory of this type holds addresses."""
    if issubclass(cls, ctypes.Array):
        return _points(cls._type_)
    if issubclass(cls, ctypes.Structure | ctypes.Union):
        return any(_points(each[1]) for each in getattr(cls, "_fields_", ()))
    return not isinstance(getattr(cls, "_type_", None), str) or cls._type_ in POINTERS


class SharedMemory(Kind):
    """multiprocessing.Value and Array: the ctypes object inside; locks and memory are made again."""

    name = "shared_ctypes"

    def takes(self, obj: Any) -> bool:
        module = sys.modules.get("multiprocessing.sharedctypes")
        return module is not None and isinstance(obj, module.SynchronizedBase)

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [type(obj).__name__, capture.child(obj.get_obj())]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return self.takes(fresh) and type(fresh).__name__ == node[1]

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        graft.pair(node[2], fresh.get_obj())

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.missing(f"multiprocessing object {node[1]}")

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        if graft.value(node[2]) is not obj.get_obj():
            raise graft.refuse(f"the memory of a multiprocessing {node[1]} has not been made again")


class ThreadLocal(Kind):
    """threading.local: what the main thread has in it."""

    name = "thread_local"
    turn = KEYED

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, _thread._local)

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [capture.child(type(obj)), capture.items(obj.__dict__.items())]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return self.takes(fresh) and graft.is_class(node[1], type(fresh))

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        for name, value in zip(node[2][::2], node[2][1::2], strict=True):
            if name in fresh.__dict__:
                graft.pair(value, fresh.__dict__[name])

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.missing("thread-local object")

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        values = graft.values(node[2])
        obj.__dict__.clear()
        obj.__dict__.update(zip(values[::2], values[1::2], strict=True))


class ContextVariable(Kind):
    """contextvars.ContextVar: its value in the main thread's context."""

    name = "context_variable"

    def takes(self, obj: Any) -> bool:
        module = sys.modules.get("contextvars")
        return module is not None and isinstance(obj, module.ContextVar)

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [obj.name, *_value_of(obj, capture)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return self.takes(fresh) and fresh.name == node[1]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.missing(f"context variable {node[1]}")

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        if node[2]:
            value = graft.value(node[3])
            if obj.get(obj) is not value:
                obj.set(value)


class Database(Kind):
    """sqlite3.Connection: what lies in a file stays there; what lies in memory only would be lost."""

    name = "sqlite"

    def takes(self, obj: Any) -> bool:
        module = sys.modules.get("sqlite3")
        return module is not None and isinstance(obj, module.Connection)

    def capture(self, obj: Any, capture: Capture) -> Node:
        in_memory = [name for _, name, path in obj.execute("PRAGMA database_list") if not path]
        if any(obj.execute(f"SELECT count(*) FROM {name}.sqlite_master").fetchone()[0] for name in in_memory):
            capture.trouble("a sqlite3 database in memory can't be carried over: keep it in a file")
        return [type(obj).__name__]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.missing("connection to a database")

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        """It is left as the program opened it."""


def _value_of(variable: Any, capture: Capture) -> list[Any]:
    value = variable.get(variable)
    return [False, None] if value is variable else [True, capture.child(value)]


register(CMemory, SharedMemory, ThreadLocal, ContextVariable, Database)

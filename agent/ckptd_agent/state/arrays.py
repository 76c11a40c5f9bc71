"""numpy: arrays as views on memory, scalars, dtypes, and its random generators."""

from __future__ import annotations

from typing import Any

import numpy as np

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import GENERATORS, KEYED, Kind, Node, register


class Array(Kind):
    """An array, by value; views on one another share memory in the fresh program and are filled each."""

    name = "array"
    exact = (np.ndarray,)

    def takes(self, obj: Any) -> bool:
        return type(obj) is np.ma.MaskedArray or type(obj) is np.matrix

    def capture(self, obj: np.ndarray[Any, Any], capture: Capture) -> Node:
        if _is_mapped(obj):
            return ["mapped", capture.child(type(obj)), str(obj.dtype), list(obj.shape), []]
        if obj.dtype.hasobject:
            items = capture.children(obj.ravel(order="K").tolist())
            return ["objects", capture.child(type(obj)), str(obj.dtype), list(obj.shape), items]
        name = f"a{capture.numbers[id(obj)]}"
        order = "F" if obj.flags.f_contiguous and not obj.flags.c_contiguous else "C"
        capture.storages[name] = np.asarray(obj)
        return [
            name,
            capture.child(type(obj)),
            _describe(obj.dtype),
            list(obj.shape),
            [order, obj.flags.writeable],
        ]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        if not isinstance(fresh, np.ndarray) or not graft.is_class(node[2], type(fresh)):
            return False
        if node[1] == "mapped" or _is_mapped(fresh):
            return node[1] == "mapped" and _is_mapped(fresh)
        if list(fresh.shape) != node[4] or not fresh.flags.writeable:
            return False
        return bool(fresh.dtype.hasobject if node[1] == "objects" else _describe(fresh.dtype) == node[3])

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        if node[1] == "mapped":
            raise graft.refuse(
                "a memory-mapped array has not been opened again when the program came to the checkpoint"
            )
        if node[1] == "objects":
            return np.empty(node[4], dtype=object)
        return np.empty(node[4], dtype=_undescribe(node[3]), order=node[5][0])

    def fill(self, node: Node, obj: np.ndarray[Any, Any], graft: Graft) -> None:
        if node[1] == "mapped":
            return  # its contents are the file's
        if node[1] == "objects":
            obj.flat[:] = graft.values(node[5])
            return
        saved = np.frombuffer(graft.storages(node[1]), dtype=_undescribe(node[3]))
        np.copyto(np.asarray(obj), saved.reshape(node[4], order=node[5][0]))
        if not node[5][1]:
            obj.flags.writeable = False


def _is_mapped(obj: Any) -> bool:
    """The array, or one that it is a view of, looks into a memory-mapped file."""
    while isinstance(obj, np.ndarray):
        if isinstance(obj, np.memmap):
            return True
        obj = obj.base
    return False


def _describe(dtype: np.dtype[Any]) -> Any:
    """A dtype as msgpack can carry it: its string, or the list of its fields."""
    return dtype.str if dtype.names is None else repr(dtype.descr)


def _undescribe(text: str) -> np.dtype[Any]:
    import ast

    return np.dtype(ast.literal_eval(text)) if text.startswith("[") else np.dtype(text)


class Scalar(Kind):
    name = "scalar"
    mutable = False

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, np.generic) and not obj.dtype.hasobject

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [_describe(obj.dtype), obj.tobytes()]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return isinstance(fresh, np.generic)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return np.frombuffer(node[2], dtype=_undescribe(node[1]))[0]


class DType(Kind):
    name = "dtype"
    mutable = False

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, np.dtype)

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [_describe(obj)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return isinstance(fresh, np.dtype)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return _undescribe(node[1])


class RandomSource(Kind):
    """Generator, RandomState and the bit generators below them: set in place, last of all."""

    name = "numpy_random"
    exact = (np.random.Generator, np.random.RandomState)
    turn = GENERATORS

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, np.random.BitGenerator)

    def capture(self, obj: Any, capture: Capture) -> Node:
        bits = obj if isinstance(obj, np.random.BitGenerator) else _bits(obj)
        legacy = (
            capture.child(obj.get_state(legacy=False)) if isinstance(obj, np.random.RandomState) else None
        )
        return [type(obj).__name__, type(bits).__name__, capture.child(bits.state), legacy]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        if type(fresh).__name__ != node[1]:
            return False
        bits = fresh if isinstance(fresh, np.random.BitGenerator) else _bits(fresh)
        return bool(type(bits).__name__ == node[2])

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        if node[2] not in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
            raise graft.refuse(f"the numpy bit generator {node[2]} can't be made again")
        bits = getattr(np.random, node[2])(0)
        if node[1] == node[2]:
            return bits
        return np.random.RandomState(bits) if node[1] == "RandomState" else np.random.Generator(bits)

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        if node[4] is not None:
            state = graft.value(node[4])
            graft.fill(KEYED)
            obj.set_state(state)
            return
        bits = obj if isinstance(obj, np.random.BitGenerator) else _bits(obj)
        state = graft.value(node[3])
        graft.fill(KEYED)
        bits.state = state


def _bits(obj: Any) -> Any:
    return obj._bit_generator if isinstance(obj, np.random.RandomState) else obj.bit_generator


register(Array, Scalar, DType, RandomSource)

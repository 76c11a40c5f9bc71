"""numpy: arrays as views on memory, scalars, dtypes, and its random generators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import GENERATORS, KEYED, KINDS, Kind, Node, register
from ckptd_agent.graph.rows import Spread
from ckptd_agent.state import sharing
from ckptd_agent.state.pool import Pool

SMALL = 1 << 16
"""Bytes of an array up to which those of one type and shape share a storage."""


class Array(Kind):
    """An array that owns its memory, by value. Where there are many small ones alike they share a storage, and
    the first part of the node is a list of the byte where each begins there, the last one its name."""

    name = "array"
    exact = (np.ndarray,)

    def takes(self, obj: Any) -> bool:
        return type(obj) is np.matrix

    def spread(self, objects: list[Any], capture: Capture) -> Spread | None:
        first = objects[0]
        alike = (first.dtype, first.shape, first.flags.writeable)
        if first.dtype.hasobject or not 0 < first.nbytes <= SMALL:
            return None
        for each in objects:
            flags = each.flags
            if (
                each.base is not None
                or (each.dtype, each.shape, flags.writeable) != alike
                or not flags.carray
            ):
                return None
        name = f"a{capture.numbers[id(first)]}"
        capture.storages[name] = Pool(objects)
        starts = range(0, len(objects) * first.nbytes, first.nbytes)
        return Spread([*zip(starts, strict=True)], tail=[*self._describe(first, capture), name])

    def _describe(self, obj: np.ndarray[Any, Any], capture: Capture) -> list[Any]:
        axes = _memory_order(obj)
        how = [axes, obj.flags.writeable]
        shared = None  # set by sharing.link
        return [capture.child(type(obj)), describe(obj.dtype), list(obj.shape), how, axes, shared]

    def capture(self, obj: np.ndarray[Any, Any], capture: Capture) -> Node:
        owner = owner_of(obj)
        if owner is not obj:
            return ["view", *_describe_view(obj, owner, capture)]
        axes = _memory_order(obj)
        inner = np.asarray(obj).transpose(axes)
        if obj.dtype.hasobject:
            items = capture.children(inner.ravel().tolist())
            return ["objects", capture.child(type(obj)), str(obj.dtype), list(obj.shape), items, axes]
        name = f"a{capture.numbers[id(obj)]}"
        capture.storages[name] = inner
        return [name, *self._describe(obj, capture)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        if not isinstance(fresh, np.ndarray) or not graft.is_class(node[2], type(fresh)):
            return False
        owner = owner_of(fresh)
        if (owner is not fresh) != (node[1] == "view") or list(fresh.shape) != node[4]:
            return False
        same = fresh.dtype.hasobject if node[1] == "objects" else describe(fresh.dtype) == node[3]
        if node[1] == "view":
            return bool(same and place_in(fresh, owner) == node[5][1:] and owner_fits(node, owner, graft))
        return bool(same and fresh.flags.writeable and _memory_order(fresh) == node[6])

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        if node[1] == "view":
            graft.pair(node[5][0], owner_of(fresh))
        elif node[1] == "objects":
            for child, each in zip(
                node[5], np.asarray(fresh).transpose(node[6]).ravel().tolist(), strict=True
            ):
                graft.pair(child, each)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        if node[1] == "view":
            return make_view(node, graft)
        shape = [node[4][axis] for axis in node[6]]
        dtype = np.dtype(object) if node[1] == "objects" else undescribe(node[3])
        owner: Any = np.empty(shape, dtype=dtype)
        if node[1] != "objects" and node[7] is not None:
            buffer = sharing.bytes_of(graft.value(node[7][0]))
            strides = _permuted_strides(owner, node[6])
            return np.ndarray(node[4], dtype, buffer, node[7][1], strides)
        cls = graft.the_class(node[2], np.ndarray)
        if node[6] == list(range(len(shape))) and cls is np.ndarray:
            return owner
        made: Any = np.ndarray.__new__(cls, node[4], dtype, strides=_permuted_strides(owner, node[6]))
        return made

    def fill(self, node: Node, obj: np.ndarray[Any, Any], graft: Graft) -> None:
        if node[1] == "view":
            graft.value(node[5][0])
            return
        inner = np.asarray(obj).transpose(node[6])
        if node[1] == "objects":
            flat = np.empty(inner.size, dtype=object)
            for place, each in enumerate(
                graft.values(node[5])
            ):  # all at once, numpy would look into tuples and lists
                flat[place] = each
            inner[...] = flat.reshape(inner.shape)
            return
        np.copyto(inner, _saved(node, graft).reshape(inner.shape))
        if not node[5][1]:
            obj.flags.writeable = False

    def fill_rows(
        self, node: Node, objects: list[Any], names: list[str], rows: list[Any], graft: Graft
    ) -> None:
        saved = np.frombuffer(graft.storages(node[8]), dtype=undescribe(node[3])).reshape(-1, *node[4])
        nbytes = objects[0].nbytes
        for obj, (start,) in zip(objects, rows, strict=True):
            np.copyto(obj, saved[start // nbytes])
            if not node[5][1]:
                obj.flags.writeable = False


def _saved(node: Node, graft: Graft) -> np.ndarray[Any, Any]:
    """The saved elements, in the order in which they lie in memory."""
    dtype = undescribe(node[3])
    if isinstance(node[1], str):
        return np.frombuffer(graft.storages(node[1]), dtype)
    return np.frombuffer(graft.storages(node[8]), dtype, math.prod(node[4]), node[1][0])


def owner_of(obj: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array whose memory an array looks at: itself, or the last one of which it is a view."""
    base: Any = obj
    while base is not None:
        if isinstance(base, np.ndarray):
            obj = base
        elif type(base).__name__ != "DummyArray":  # stands between as_strided's result and its base
            break
        base = base.base
    return obj


def _memory_order(obj: np.ndarray[Any, Any]) -> list[int]:
    """Axes from the slowest to the fastest in memory."""
    if obj.flags.c_contiguous:
        return list(range(obj.ndim))
    return sorted(range(obj.ndim), key=lambda axis: -obj.strides[axis])


def _permuted_strides(owner: np.ndarray[Any, Any], axes: list[int]) -> list[int]:
    strides = [0] * len(axes)
    for place, axis in enumerate(axes):
        strides[axis] = owner.strides[place]
    return strides


def owner_fits(node: Node, owner: np.ndarray[Any, Any], graft: Graft) -> bool:
    """The array that a fresh view looks at stays: a view of another one would be left behind."""
    found = graft.node(node[5][0][0])
    return KINDS[found[0]].fits(found, owner, graft)


def place_in(obj: np.ndarray[Any, Any], owner: np.ndarray[Any, Any]) -> list[Any]:
    """Where a view looks in its owner's memory: offset and strides in bytes, and whether it may be written."""
    offset = obj.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    return [offset, list(obj.strides), obj.flags.writeable]


def _describe_view(obj: np.ndarray[Any, Any], owner: np.ndarray[Any, Any], capture: Capture) -> Node:
    dtype = str(obj.dtype) if obj.dtype.hasobject else describe(obj.dtype)
    place = [capture.child(owner), *place_in(obj, owner)]
    return [capture.child(type(obj)), dtype, list(obj.shape), place, []]


def make_view(node: Node, graft: Graft) -> Any:
    """Of a node whose parts from the second on are class, dtype, shape and place in another array."""
    child, offset, strides, writeable = node[5]
    owner = graft.value(child)
    flat = np.asarray(owner).transpose(_memory_order(owner)).reshape(-1)
    if flat.dtype.hasobject:
        start = flat[offset // flat.itemsize :] if flat.size else flat
        made = np.lib.stride_tricks.as_strided(start, node[4], strides)
    else:
        made = np.ndarray(node[4], undescribe(node[3]), flat.view(np.uint8), offset, strides)
    cls = graft.the_class(node[2], np.ndarray)
    if cls is not np.ndarray:
        made = made.view(cls)
    if not writeable:
        made.flags.writeable = False
    return made


def describe(dtype: np.dtype[Any]) -> Any:
    """A dtype as msgpack can carry it: its string, or the list of its fields."""
    return dtype.str if dtype.names is None else repr(dtype.descr)


def undescribe(text: str) -> np.dtype[Any]:
    """The dtype again."""
    import ast

    return np.dtype(ast.literal_eval(text)) if text.startswith("[") else np.dtype(text)


class Scalar(Kind):
    name = "scalar"
    mutable = False

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, np.generic) and not obj.dtype.hasobject

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [describe(obj.dtype), obj.tobytes()]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return isinstance(fresh, np.generic)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return np.frombuffer(node[2], dtype=undescribe(node[1]))[0]


class DType(Kind):
    name = "dtype"
    mutable = False

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, np.dtype)

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [describe(obj)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return isinstance(fresh, np.dtype)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return undescribe(node[1])


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

"""All that a program has left at its end, as text: variables, what is shared by whom, random generators, files."""

from __future__ import annotations

import hashlib
import io
import logging
import random
import threading
import types
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

MOST_DRAWS = 12
"""Items that are drawn from an iterator to see where it stands."""


def digest(namespace: dict[str, Any]) -> str:
    """One line for each variable of the main module, then the global random generators, then iterators."""
    walk = _Walk()
    lines = [
        f"{name} = {walk.describe(value)}"
        for name, value in namespace.items()
        if not (name.startswith("__") and name.endswith("__"))
    ]
    lines.append(f"random {_hash(random.getstate())}")
    lines.append(f"numpy {_hash(_plain(np.random.get_state(legacy=False)))}")
    lines.append(f"torch {_hash(torch.get_rng_state().numpy().tobytes())}")
    for number, iterator in walk.iterators:
        lines.append(f"#{number} gives {_draw(iterator)}")
    return "\n".join(lines) + "\n"


GONE = "<gone>"
"""What ckptd could not make again: whatever the program does with it fails, loudly."""


class _Walk:
    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.memory: dict[int, int] = {}
        self.iterators: list[tuple[int, Iterator[Any]]] = []
        self.kept: list[Any] = []

    def describe(self, obj: Any) -> str:
        if type(obj).__name__ == "Gone":
            return GONE
        if obj is None or isinstance(obj, bool | int | float | complex | str | bytes | range | slice):
            return f"{type(obj).__name__}:{obj!r}"
        if isinstance(obj, types.ModuleType | types.BuiltinFunctionType | torch.dtype | torch.device):
            return f"<{type(obj).__name__} {getattr(obj, '__name__', obj)}>"
        if isinstance(obj, np.generic):
            return f"{obj.dtype}:{obj!r}"
        if type(obj) in (tuple, frozenset):  # which equal ones are one object is the compiler's choice
            return f"<{type(obj).__name__} {', '.join(map(self.describe, obj))}>"
        if id(obj) in self.numbers:
            return f"#{self.numbers[id(obj)]}"
        number = self.numbers[id(obj)] = len(self.numbers)
        self.kept.append(obj)
        return f"#{number}{self._contents(number, obj)}"

    def _contents(self, number: int, obj: Any) -> str:
        if isinstance(obj, torch.Tensor):
            return self._tensor(obj)
        if isinstance(obj, np.ndarray):
            return self._array(obj)
        if isinstance(obj, random.Random):
            return f"<Random {_hash(obj.getstate())}>"
        if isinstance(obj, np.random.Generator):
            return f"<Generator {_hash(_plain(obj.bit_generator.state))}>"
        if isinstance(obj, np.random.RandomState):
            return f"<RandomState {_hash(_plain(obj.get_state(legacy=False)))}>"
        if isinstance(obj, torch.Generator):
            return f"<torch {_hash(obj.get_state().numpy().tobytes())}>"
        if isinstance(obj, threading.Thread):
            return f"<thread {obj.name}>"
        if isinstance(obj, logging.Logger):
            return f"<logger {obj.name} {obj.level}>"  # what else it has is a cache
        if isinstance(obj, io.IOBase):
            place = "closed" if obj.closed else f"{getattr(obj, 'mode', '')} {_tell(obj)}"
            if not obj.closed and getattr(obj, "name", "") in (1, 2):
                place = "standard"  # after a resume less has gone through it
            return f"<file {getattr(obj, 'name', '')} {place}>"
        if isinstance(obj, dict):
            items = ", ".join(f"{self.describe(k)}: {self.describe(v)}" for k, v in obj.items())
            factory = f" {self.describe(obj.default_factory)}" if isinstance(obj, defaultdict) else ""
            return f"<{type(obj).__name__}{factory} {items}{self._own(obj)}>"
        if isinstance(obj, list | tuple | set | frozenset | deque):
            longest = f" {obj.maxlen}" if isinstance(obj, deque) else ""
            return f"<{type(obj).__name__}{longest} {', '.join(map(self.describe, obj))}{self._own(obj)}>"
        if isinstance(obj, types.FunctionType):
            return self._function(obj)
        if isinstance(obj, types.MethodType):
            return f"<method {self.describe(obj.__self__)} {self.describe(obj.__func__)}>"
        if isinstance(obj, type):
            own = {k: v for k, v in vars(obj).items() if not k.startswith("__")}
            user = obj.__module__ == "__main__"
            return f"<class {obj.__qualname__} {self.describe(own) if user else ''}>"
        if isinstance(obj, BaseException):
            return f"<{type(obj).__name__} {self.describe(obj.args)}{self._own(obj)}>"
        if hasattr(type(obj), "__next__"):
            self.iterators.append((number, obj))
            frame = getattr(obj, "gi_frame", None)
            inside = self.describe(dict(frame.f_locals)) if frame is not None else ""
            return f"<{type(obj).__name__} {inside}>"
        return f"<{type(obj).__qualname__}{self._own(obj)}>"

    def _own(self, obj: Any) -> str:
        slots = {
            name: getattr(obj, name)
            for cls in type(obj).__mro__
            for name in vars(cls).get("__slots__", ())
            if cls.__module__ == "__main__" and hasattr(obj, name)
        }
        own = {**(obj.__dict__ if type(obj).__dictoffset__ else {}), **slots}
        return " " + ", ".join(f".{k}={self.describe(v)}" for k, v in own.items()) if own else ""

    def _function(self, obj: types.FunctionType) -> str:
        if obj.__module__ != "__main__":
            return f"<function {obj.__qualname__}>"
        cells = []
        for cell in obj.__closure__ or ():
            try:
                cells.append(f"{self.describe(cell)} {self.describe(cell.cell_contents)}")
            except ValueError:
                cells.append("empty")
        parts = [self.describe(obj.__defaults__), self.describe(obj.__kwdefaults__)]
        return f"<function {obj.__qualname__} {cells} {parts}{self._own(obj)}>"

    def _tensor(self, obj: torch.Tensor) -> str:
        storage = self.memory.setdefault(obj.untyped_storage().data_ptr(), len(self.memory))
        self.kept.append(obj.untyped_storage())
        grad = self.describe(obj.grad) if obj.is_leaf else ""
        graph = "graph" if obj.grad_fn is not None else ""
        view = f"{storage} {list(obj.shape)} {obj.stride()} {obj.storage_offset()}"
        values = obj.detach().reshape(-1).tolist()
        rest = f"{obj.requires_grad} {graph} {grad}{self._own(obj)}"
        return f"<{type(obj).__name__} {obj.dtype} in {view} {values} {rest}>"

    def _array(self, obj: Any) -> str:
        base = owner = obj
        while owner is not None:
            if isinstance(owner, np.ndarray):
                base = owner
            owner = getattr(owner, "base", None)
        start = base.__array_interface__["data"][0]
        memory = self.memory.setdefault(start, len(self.memory))
        self.kept.append(base)
        offset = obj.__array_interface__["data"][0] - start
        values = self.describe(obj.ravel().tolist()) if obj.dtype.hasobject else obj.ravel().tolist()
        flags = f"{obj.strides} {offset} {obj.flags.writeable}"
        return f"<array {obj.dtype} in {memory} {list(obj.shape)} {flags} {values}>"


def _tell(file: Any) -> str:
    try:
        return str(file.tell())
    except (OSError, ValueError) as error:
        return type(error).__name__


def _draw(iterator: Iterator[Any]) -> str:
    found: list[str] = []
    try:
        while len(found) < MOST_DRAWS:
            found.append(_Walk().describe(next(iterator)))
    except StopIteration:
        found.append("end")
    except Exception as error:  # noqa: BLE001 - the program's own generator fails: that is what it gives
        found.append(f"{type(error).__name__}: {error}")
    return ", ".join(found)


def _plain(obj: Any) -> Any:
    if isinstance(obj, dict):
        return {key: _plain(value) for key, value in obj.items()}
    return obj.tolist() if isinstance(obj, np.ndarray) else obj


def _hash(obj: Any) -> str:
    data = obj if isinstance(obj, bytes) else repr(obj).encode()
    return hashlib.sha256(data).hexdigest()[:12]

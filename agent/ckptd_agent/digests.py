"""Digests of what a program holds, by name: loss, parameters, optimizers, random generators, variables.

Used by ``ckptd prove`` only. Reading changes nothing of the program's: no object is kept, no generator drawn from.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from types import FrameType, SimpleNamespace
from typing import Any

import torch

from ckptd_agent.graph import frames
from ckptd_agent.loops import events
from ckptd_agent.source import table

Item = tuple[str, str, str]
"""Kind ('loss', 'parameter', 'buffer', 'optimizer', 'rng', 'variable'), digest, and what people are shown."""

ATOMS = (bool, int, float, complex, str, bytes, type(None))
PLAIN = (argparse.Namespace, SimpleNamespace)
SEQUENCES = (list, tuple, deque)
MAPPINGS = (dict, OrderedDict, defaultdict)
DEPTH = 8
"""Containers in containers that are looked into."""
BUDGET = 20_000
"""Containers and values that are looked at, at one event."""
ENDS = 128
"""Of a longer list so many elements at each end are looked at."""
ALL_BYTES = 4 << 20
"""A larger tensor is digested in full only if it is a parameter, a buffer or an optimizer's."""
NORMED = 1 << 20
"""Elements of a tensor whose norm is told at most."""
FEW = 4
"""Elements of a tensor that are told each."""
SHOWN = 60
"""Characters of a value that people are shown."""


def _hash64() -> Callable[[Any], str]:
    try:
        import xxhash
    except ImportError:
        return lambda data: hashlib.blake2b(data, digest_size=8).hexdigest()
    return lambda data: str(xxhash.xxh3_64_hexdigest(data))


hash64 = _hash64()


def digest_tensor(tensor: torch.Tensor, *, full: bool = True) -> str:
    """Of type, shape and bytes; of a large one that isn't wanted ``full`` only the two ends. '' if unreadable."""
    try:
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            if tensor.layout is not torch.strided or tensor.device.type == "meta" or tensor.is_quantized:
                return ""
            flat = tensor.detach().resolve_conj().resolve_neg().reshape(-1)
            size = flat.numel() * flat.element_size()
            parts = [flat]
            if not full and size > ALL_BYTES:
                few = ALL_BYTES // flat.element_size() // 4
                parts = [flat[:few], flat[-few:]]
            head = f"{tensor.dtype}{tuple(tensor.shape)}"
            return hash64((head + "".join(_hash_flat(part) for part in parts)).encode())
    except (RuntimeError, NotImplementedError):  # without storage: functional, fake, nested
        return ""


def _hash_flat(flat: torch.Tensor) -> str:
    here = flat.cpu().contiguous()
    size = here.numel() * here.element_size()
    if not size:
        return "0"
    return hash64((ctypes.c_char * size).from_address(here.data_ptr()))


def random_states() -> dict[str, Item]:
    """Of the global generators."""
    from ckptd_agent.state import rng

    found: dict[str, Item] = {}
    for name, state in rng.take().items():
        devices = enumerate(state) if name == "cuda" else [("", state)]
        for number, each in devices:
            found[f"rng:{name}{number}"] = ("rng", hash64(repr(each).encode()), "")
    return found


def take(frame: FrameType | None) -> dict[str, Item]:
    """Of everything, as seen from ``frame`` and its callers, by name."""
    walk = Walk()
    loss = events.last_loss()
    if loss is not None:
        walk.add("loss", "loss", digest_tensor(loss), _show(loss))
    taken = {"loss"}
    while frame is not None:
        if table.source_of(frame.f_code) is not None and frame.f_code.co_name != "<module>":
            for name, value in frames.read(frame).items():
                label = f"{frame.f_code.co_name}.{name}" if name in taken else name
                taken.add(name)
                walk.visit(label, value, 0)
        frame = frame.f_back
    for module in sorted(table.SOURCES):
        loaded = sys.modules.get(module)
        for name, value in sorted(vars(loaded).items()) if loaded is not None else ():
            if not name.startswith("__"):
                label = f"{module}.{name}" if name in taken else name
                taken.add(name)
                walk.visit(label, value, 0)
    walk.finish()
    walk.found.update(random_states())
    return walk.found


class Walk:
    """Goes through the program's data; the first path to an object names it."""

    def __init__(self) -> None:
        self.found: dict[str, Item] = {}
        self.seen: dict[int, Any] = {}
        self.left = BUDGET
        self.optimizers: list[tuple[str, Any]] = []
        self.parameters: dict[int, str] = {}

    def add(self, name: str, kind: str, digest: str, shown: str) -> None:
        if digest:
            self.found.setdefault(name, (kind, digest, shown))

    def atom(self, name: str, value: Any) -> None:
        self.add(name, "variable", hash64(_text(value).encode("utf-8", "surrogatepass")), _show(value))

    def visit(self, name: str, value: Any, depth: int) -> None:
        """One value, and what it holds."""
        self.left -= 1
        if isinstance(value, ATOMS):
            self.atom(name, value)
            return
        if depth > DEPTH or self.left < 0 or id(value) in self.seen:
            return
        self.seen[id(value)] = value
        if isinstance(value, torch.Tensor):
            self.add(name, "variable", digest_tensor(value, full=False), _show(value))
        elif isinstance(value, torch.nn.Module):
            self._module(name, value, depth)
        elif isinstance(value, torch.optim.Optimizer):
            self.optimizers.append((name, value))
        elif isinstance(value, torch.Generator):
            self.add(name, "rng", digest_tensor(value.get_state()), "")
        elif isinstance(value, SEQUENCES):
            self._sequence(name, value, depth)
        elif isinstance(value, MAPPINGS):
            self._mapping(name, value, depth)
        elif isinstance(value, set | frozenset):
            self.add(name, "variable", hash64("".join(sorted(map(_text, value))).encode()), _show(value))
        elif isinstance(value, torch.optim.lr_scheduler.LRScheduler):
            self._mapping(name, value.state_dict(), depth)
        else:
            self._other(name, value, depth)

    def _other(self, name: str, value: Any, depth: int) -> None:
        kind = type(value)
        if kind.__module__ in table.SOURCES or isinstance(value, PLAIN):
            own = getattr(value, "__dict__", None)
            if isinstance(own, dict):
                self._mapping(name, own, depth, attributes=True)
        elif (
            kind.__module__ == "numpy"
            and hasattr(value, "tobytes")
            and not getattr(value.dtype, "hasobject", 1)
        ):
            self.add(
                name,
                "variable",
                hash64(value.tobytes() + f"{value.dtype}{value.shape}".encode()),
                _show(value),
            )
        elif kind.__module__ == "random" and hasattr(value, "getstate") and kind.__name__ == "Random":
            self.add(name, "rng", hash64(repr(value.getstate()).encode()), "")
        elif kind.__module__.startswith("numpy.random") and hasattr(value, "bit_generator"):
            self.add(name, "rng", hash64(repr(value.bit_generator.state).encode()), "")

    def _sequence(self, name: str, values: Any, depth: int) -> None:
        count = len(values)
        numbers: Iterable[int] = range(count)
        if count > 2 * ENDS:
            numbers = [*range(ENDS), *range(count - ENDS, count)]
        items = [(number, values[number]) for number in numbers]
        if all(isinstance(value, ATOMS) for _, value in items):
            text = f"{count} " + " ".join(_text(value) for _, value in items)
            shown = f"{count} values, the last {_show(values[-1])}" if count else "empty"
            self.add(name, "variable", hash64(text.encode("utf-8", "surrogatepass")), shown)
            return
        self.atom(f"len({name})", count)
        for number, value in items:
            self.visit(f"{name}[{number}]", value, depth + 1)

    def _mapping(self, name: str, values: Any, depth: int, *, attributes: bool = False) -> None:
        keys = [key for key in list(values) if isinstance(key, ATOMS)]
        if not attributes:
            self.atom(f"len({name})", len(values))
        if len(keys) > 2 * ENDS:
            keys = [*keys[:ENDS], *keys[-ENDS:]]
        for key in keys:
            self.visit(f"{name}.{key!s}" if attributes else f"{name}[{key!r}]", values[key], depth + 1)

    def _module(self, name: str, module: torch.nn.Module, depth: int) -> None:
        for path, part in module.named_modules():
            prefix = f"{name}.{path}" if path else name
            for store, kind in ((part._parameters, "parameter"), (part._buffers, "buffer")):
                for own, tensor in store.items():
                    if tensor is not None:
                        self._named(f"{prefix}.{own}", kind, tensor)
            if part is module or type(part).__module__ in table.SOURCES:
                for own, value in sorted(vars(part).items()):
                    if not own.startswith("_"):
                        self.visit(f"{prefix}.{own}", value, depth + 1)
            self.seen[id(part)] = part

    def _named(self, name: str, kind: str, tensor: torch.Tensor) -> None:
        self.seen[id(tensor)] = tensor
        if self.parameters.setdefault(id(tensor), name) == name:
            self.add(name, kind, digest_tensor(tensor), _show(tensor))

    def finish(self) -> None:
        """Optimizers come last, because they are told of by the names of their parameters."""
        known = {id(optimizer) for _, optimizer in self.optimizers}
        others = [each for each in events.optimizers if id(each) not in known]
        others.sort(key=lambda each: type(each).__name__)
        for number, optimizer in enumerate(others):
            self.optimizers.append((f"{type(optimizer).__name__}{number or ''}", optimizer))
        for name, optimizer in self.optimizers:
            self._optimizer(name, optimizer)

    def _optimizer(self, name: str, optimizer: Any) -> None:
        for number, group in enumerate(optimizer.param_groups):
            for key, value in group.items():
                if key != "params":
                    self.add(f"{name}.param_groups[{number}][{key!r}]", "optimizer", *_digest_and_text(value))
            for place, parameter in enumerate(group["params"]):
                own = f"{name}.param_groups[{number}]['params'][{place}]"
                self._named(own, "parameter", parameter)
                label = self.parameters[id(parameter)]
                for slot, value in optimizer.state.get(parameter, {}).items():
                    self.add(f"{name}.state[{label}].{slot}", "optimizer", *_digest_and_text(value))


def _digest_and_text(value: Any) -> tuple[str, str]:
    if isinstance(value, torch.Tensor):
        return digest_tensor(value), _show(value)
    if isinstance(value, list | tuple) and any(isinstance(each, torch.Tensor) for each in value):
        return hash64("".join(_digest_and_text(each)[0] for each in value).encode()), f"{len(value)} values"
    if isinstance(value, (list, tuple, *ATOMS)):
        return hash64(_text(value).encode("utf-8", "surrogatepass")), _show(value)
    return "", ""


def _text(value: Any) -> str:
    """A value in full, with its type; an int may have more digits than Python likes to print."""
    try:
        return f"{type(value).__name__} {value!r}"
    except ValueError:
        return f"int {value:x}"


def _show_tensor(tensor: torch.Tensor) -> str:
    """A few numbers as they are; of more the type, the shape and, for those with a fraction, the norm."""
    kind = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
    count = tensor.numel()
    if tensor.layout is not torch.strided or tensor.device.type == "meta" or not 0 < count <= NORMED:
        return kind
    try:
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            flat = tensor.detach().reshape(-1)
            if count == 1:
                return f"{flat[0].item():.9g}"
            if count <= FEW:
                return "[" + ", ".join(f"{number:.9g}" for number in flat.tolist()) + "]"
            if not tensor.is_floating_point():
                return kind
            return f"{kind} of norm {float(torch.linalg.vector_norm(flat, dtype=torch.float64)):.9g}"
    except (RuntimeError, NotImplementedError):  # without storage, or of a type that has no norm
        return kind


def _show(value: Any) -> str:
    """A value as people are shown it."""
    if isinstance(value, torch.Tensor):
        return _show_tensor(value)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype!s}{list(value.shape)}" if value.shape else str(value)
    text = _text(value).partition(" ")[2]
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."

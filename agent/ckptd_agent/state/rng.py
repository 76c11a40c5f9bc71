"""Random generators: python's, torch's, and the global ones of both and of numpy."""

from __future__ import annotations

import _random
import random
import sys
from typing import Any

import torch

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import GENERATORS, Kind, Node, register
from ckptd_agent.unseen import torch_modes_off


class PythonRandom(Kind):
    """random.Random, and subclasses that keep their state where it does."""

    name = "random"
    exact = (random.Random,)
    turn = GENERATORS

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, _random.Random) and not isinstance(obj, random.SystemRandom)

    def capture(self, obj: random.Random, capture: Capture) -> Node:
        return [capture.child(type(obj)), capture.child(obj.getstate())]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.the_class(node[1], _random.Random)(0)

    def fill(self, node: Node, obj: random.Random, graft: Graft) -> None:
        obj.setstate(graft.value(node[2]))


class TorchGenerator(Kind):
    name = "torch_generator"
    exact = (torch.Generator,)
    turn = GENERATORS

    def capture(self, obj: torch.Generator, capture: Capture) -> Node:
        return [str(obj.device), obj.get_state().numpy().tobytes(), obj.initial_seed()]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return type(fresh) is torch.Generator and str(fresh.device) == node[1]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return torch.Generator(device=node[1])

    def fill(self, node: Node, obj: torch.Generator, graft: Graft) -> None:
        obj.set_state(_tensor(node[2]))


def _tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def take() -> dict[str, Any]:
    """The state of all global generators, of plain data."""
    with torch_modes_off():
        return _take()


def _take() -> dict[str, Any]:
    states: dict[str, Any] = {
        "python": [*random.getstate()[1], random.getstate()[0], random.getstate()[2]],
        "torch": torch.get_rng_state().numpy().tobytes(),
        "cuda": [],
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        states["numpy"] = _plain(numpy.random.get_state(legacy=False))
    # Not asked for devices: that would wake the driver, and a program that forks later could not use it there.
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()]
    return states


def put(states: dict[str, Any]) -> None:
    """Set the global generators."""
    *inner, version, gauss = states["python"]
    random.setstate((version, tuple(inner), gauss))
    torch.set_rng_state(_tensor(states["torch"]))
    if "numpy" in states:
        import numpy

        numpy.random.set_state(_rich(states["numpy"]))
    if states["cuda"]:
        torch.cuda.set_rng_state_all([_tensor(state) for state in states["cuda"]])


def _plain(state: Any) -> Any:
    """The state of a generator of numpy's (of any bit generator), as msgpack can carry it."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    if isinstance(state, int):  # of 128 bits, perhaps
        return ["int", hex(state)]
    return state if isinstance(state, str | float) else [str(state.dtype), state.tobytes()]


def _rich(state: Any) -> Any:
    import numpy

    if isinstance(state, dict):
        return {name: _rich(value) for name, value in state.items()}
    if not isinstance(state, list):
        return state
    kind, value, *rest = state
    if rest:  # of a checkpoint whose graph has version 2
        return (kind, numpy.frombuffer(value, dtype=numpy.uint32), *rest)
    return int(value, 16) if kind == "int" else numpy.frombuffer(value, dtype=kind)


register(PythonRandom, TorchGenerator)

"""Plain data as training programs hold it, and how long ckptd and pickle take for it.

Not part of the program that is run, so that its classes lead to nothing else.
"""

from __future__ import annotations

import collections
import gc
import pickle
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "agent")]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from ckptd.memory.segment import Segment  # noqa: E402
from ckptd_agent.drain import drain  # noqa: E402
from ckptd_agent.graph import document  # noqa: E402
from ckptd_agent.graph.capture import Capture  # noqa: E402
from ckptd_agent.graph.graft import Graft  # noqa: E402
from ckptd_agent.state import kinds, sharing  # noqa: E402, F401 - kinds registers them all

Transition = collections.namedtuple("Transition", "state action reward following done")


class Step:
    """One step of an episode, as programs write it."""

    def __init__(self, number: int) -> None:
        self.state = [random.random() for _ in range(4)]
        self.action = number % 4
        self.reward = random.random()


CLASSES = (Transition, Step)
"""As in a replay, the program has defined them again."""


def _floats() -> tuple[float, ...]:
    return (random.random(), random.random(), random.random(), random.random())


def replay_floats(size: int) -> Any:
    """Tuples of (state, action, reward, next state, done), states as tuples of floats; 1,000,000 at full size."""
    states = [_floats() for _ in range(size + 1)]
    return collections.deque(
        [(states[n], n % 4, random.random(), states[n + 1], n % 200 == 0) for n in range(size)], maxlen=size
    )


def replay_arrays(size: int) -> Any:
    """The same with states as arrays of four float32, each shared by two tuples; 1,000,000 at full size."""
    states = [np.random.rand(4).astype(np.float32) for _ in range(size + 1)]
    return [(states[n], n % 4, random.random(), states[n + 1], n % 200 == 0) for n in range(size)]


def replay_named(size: int) -> Any:
    """Named tuples in a deque; 500,000 at full size."""
    size //= 2
    return collections.deque(Transition(_floats(), n % 4, 1.0, _floats(), False) for n in range(size))


def replay_objects(size: int) -> Any:
    """Instances of a class with three attributes; 300,000 at full size."""
    return [Step(n) for n in range(int(size * 0.3))]


def replay_dicts(size: int) -> Any:
    """Dicts of a list of floats, an int, a float and a bool; 500,000 at full size."""
    return [
        {"state": list(_floats()), "action": n % 4, "reward": random.random(), "done": False}
        for n in range(size // 2)
    ]


def arrays_in_dict(size: int) -> Any:
    """A dict of 100,000 arrays of 16 doubles."""
    return {f"key {n}": np.random.rand(16) for n in range(size // 10)}


def tensors_in_dict(size: int) -> Any:
    """A dict of 100,000 tensors of 16 floats."""
    return {n: torch.rand(16) for n in range(size // 10)}


def scalars(size: int) -> Any:
    """300,000 numpy scalars of two types."""
    return [np.float32(n) if n % 2 else np.int64(n) for n in range(int(size * 0.3))]


def nested(size: int) -> Any:
    """A tree of lists and dicts, eight levels deep, with about 500,000 leaves of all kinds."""
    leaves = iter(range(1 << 62))

    def grow(depth: int) -> Any:
        if depth == 0:
            n = next(leaves)
            return (n, n / 3, f"leaf {n}", n % 2 == 0, None)[n % 5]
        children = [grow(depth - 1) for _ in range(4)]
        return children if depth % 2 else {f"k{n}": each for n, each in enumerate(children)}

    return [grow(8) for _ in range(max(1, size // (2 * 4**8)))]


def ragged(size: int) -> Any:
    """300,000 lists of 0 to 9 ints, as token ids."""
    return [list(range(n, n + n % 10)) for n in range(int(size * 0.3))]


def ints(size: int) -> Any:
    """A million ints."""
    return [n * 977 % 100_003 for n in range(size)]


def floats(size: int) -> Any:
    """A million floats."""
    return [random.random() for _ in range(size)]


def strings(size: int) -> Any:
    """A million strings."""
    return [f"text {n}" for n in range(size)]


def mixed(size: int) -> Any:
    """A list of a million ints, floats, strings and None in turn."""
    return [(n, n / 7, f"t{n}", None)[n % 4] for n in range(size)]


def counts(size: int) -> Any:
    """A dict of 500,000 strings to ints."""
    return {f"word {n}": n for n in range(size // 2)}


SETS: dict[str, Callable[[int], Any]] = {
    each.__name__: each
    for each in (
        replay_floats, replay_arrays, replay_named, replay_objects, replay_dicts, arrays_in_dict, tensors_in_dict,
        scalars, nested, ragged, ints, floats, strings, mixed, counts,
    )
}  # fmt: skip


def capture(data: Any) -> Path:
    """All that stands in the way of training; the path of the segment."""
    found = Capture()
    root = found.child([data, *CLASSES])
    found.run()
    sharing.link(found)
    return drain(
        found, document.pack({"version": document.VERSION, "nodes": found.nodes, "root": root}), {}, "1"
    )


def restore(path: Path) -> Any:
    """The data out of a segment."""
    segment = Segment(path)  # what was restored may look into its mapping: it goes with the last of that
    saved = document.unpack(bytes(segment.graph()))
    data = segment.data()
    places = {each.name: each for each in segment.index.tensors}

    def storage(name: str) -> memoryview:
        place = places[name]
        return data[place.offset : place.offset + place.nbytes]

    graft = Graft(saved["nodes"], storage)
    graft.pair(saved["root"], [None, *CLASSES])
    graft.match()
    result = graft.value(saved["root"])
    graft.fill()
    return result[0]


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds (others may use the machine), and what the call gave. The collector is off, as in a capture."""
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        result = call()
        return time.process_time() - began, result
    finally:
        gc.enable()


def measure(data: Any, rounds: int) -> dict[str, float]:
    """Medians in seconds, and ratios, of rounds that take turns."""
    seconds: dict[str, list[float]] = {"pickle": [], "capture": [], "loads": [], "restore": []}
    for _ in range(rounds):
        took, pickled = timed(lambda: pickle.dumps(data, 5))
        seconds["pickle"].append(took)
        took, path = timed(lambda: capture(data))
        seconds["capture"].append(took)
        try:
            took, _ = timed(partial(pickle.loads, pickled))
            seconds["loads"].append(took)
            took, _ = timed(partial(restore, path))
            seconds["restore"].append(took)
        finally:
            path.unlink()
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {
        **medians,
        "capture_ratio": medians["capture"] / medians["pickle"],
        "restore_ratio": medians["restore"] / medians["loads"],
    }

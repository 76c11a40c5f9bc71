"""How training loops ended, so that a replay can skip them and end the same way."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from ckptd_agent.loops import record as r
from ckptd_agent.loops import variables
from ckptd_agent.source import table
from ckptd_agent.unseen import torch_modes_off

SMALL = 4096
"""Elements of a tensor or array, or characters of a string, that are cheap to keep."""


OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
Chain = tuple[tuple[CodeType, int], ...]
"""Code and last instruction of frames of the user's, and of a library's between them, from the inner to the outer."""


@dataclass
class Ended:
    """A training loop that ended within its parent's current iteration."""

    how: int
    """r.EXHAUSTED, r.BROKEN, r.RETURNED or r.RAISED."""
    value: Any = None
    """What was returned, or class and arguments of the exception that was raised."""
    variables: dict[str, Any] = field(default_factory=dict)
    """The variables of the function (or module) at that moment, as far as they are small."""
    chain: Chain = ()
    """From where the loop's function had been called."""


def note(parent: r.Record, loop: int, ordinal: int, how: int, frame: FrameType) -> None:
    """Write a training loop's end into its parent's record."""
    value = None
    if how == r.RETURNED:
        value = small_copy(r.returned[0])
    elif how == r.RAISED:
        # Not the exception: it is on its way to the program's own handlers, and holds their frames.
        error = sys.exc_info()[1]
        value = (type(error), error.args) if error is not None and is_small(error.args) else None
    keep(parent, loop, ordinal, Ended(how, value, small_variables(frame), callers(frame)))


def callers(frame: FrameType) -> Chain:
    """The frames above one, up to the outermost of the user's."""
    found: list[tuple[CodeType, int]] = []
    between: list[tuple[CodeType, int]] = []
    each = frame.f_back
    while each is not None:
        if not is_ours(each.f_code):
            between.append((each.f_code, each.f_lasti))
        if table.source_of(each.f_code) is not None:
            found += between
            between = []
        each = each.f_back
    return tuple(found)


def is_ours(code: CodeType) -> bool:
    """The code is this package's."""
    return code.co_filename.startswith(OURS)


def keep(parent: r.Record, loop: int, ordinal: int, ended: Ended) -> None:
    """Put an entry into the ledger of the parent's current iteration."""
    left = r.length_hint(parent[r.COUNTER])
    if left != parent[r.SEEN]:  # the loop was nested, and so not counted
        parent[r.SEEN], parent[r.CHILDREN], parent[r.LEDGER] = left, {}, None
    if parent[r.LEDGER] is None:
        parent[r.LEDGER] = {}
    parent[r.LEDGER][loop, ordinal] = ended


@torch_modes_off()
def small_variables(frame: FrameType) -> dict[str, Any]:
    """The frame's variables without what is big, such as batches and models.

    What is left out has, when the loop is skipped in a replay, the value that it had before the loop; that
    is enough to reach the safe point, and what still lives there is then restored exactly.
    """
    found = variables.read(frame).items()
    return {name: small_copy(v) for name, v in found if not name.startswith("__") and is_small(v)}


def is_small(value: Any, depth: int = 3) -> bool:
    """Cheap to keep: an atom, a small tensor or array, or a small container of such."""
    if value is None or isinstance(value, bool | int | float | complex):
        return True
    if isinstance(value, str | bytes):
        return len(value) <= SMALL
    if type(value) in (list, tuple, set):
        return bool(depth) and _are_small(value, depth)
    if type(value) is dict:
        return bool(depth) and _are_small(value.values(), depth)
    if _is_tensor(value) and value.requires_grad and value.is_leaf:
        return False  # a parameter: a copy would not be what the optimizer and the graph know
    return _is_array(value) and _elements(value) <= SMALL


def is_data(value: Any, depth: int = 3) -> bool:
    """An atom, a tensor or an array, or a container of such that is quickly looked through."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes) or _is_array(value):
        return True
    if type(value) not in (list, tuple, set, dict) or not depth or len(value) > 64:
        return False
    return all(is_data(each, depth - 1) for each in (value.values() if type(value) is dict else value))


def _are_small(values: Collection[Any], depth: int) -> bool:
    return len(values) <= 64 and all(is_small(item, depth - 1) for item in values)


@torch_modes_off()
def small_copy(value: Any) -> Any:
    """The value, or None if it is big; tensors without the graph that they hang on."""
    if not is_small(value):
        return None
    return value.detach().clone() if _is_tensor(value) else value


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return _is_tensor(value) or (numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)))


def _elements(value: Any) -> int:
    return int(value.numel()) if _is_tensor(value) else int(value.size)

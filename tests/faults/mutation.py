"""Values as JSON and msgpack hold them, with a part that is another."""

from __future__ import annotations

import copy
import random
from typing import Any

import msgpack

from ckptd.store.manifest import dump_json, load_json
from ckptd.store.packed import unpack_whole

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 63, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, -0.0, 1e308, "", "a", "../x",
    "0" * 32, "ffffffff", "\x00", "\ud800", "tensor", "storage", "array", "rows", "dict", "<f8", "F32", b"", b"\0" * 16,
    [], {}, [0], [[0]], [1, 2], {"a": 1},
]  # fmt: skip


def change(value: Any, chance: random.Random) -> Any:
    """The same, but for one part of it, which is odd, another's, there twice, or gone."""
    made = copy.deepcopy(value)
    places = list(_places(made))
    if not places:
        return chance.choice(ODD)
    holder, key = chance.choice(places)
    how = chance.randrange(5)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif how == 2:
        other, at = chance.choice(places)
        holder[key] = copy.deepcopy(other[at])
    elif how == 3 and isinstance(holder[key], int):
        holder[key] += chance.choice([-1, 1, 1 << 20, 1 << 40])
    else:
        holder[key] = copy.deepcopy(chance.choice(ODD))
    return made


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Each part, as what holds it and its key there."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = (
            list(holder)
            if isinstance(holder, dict)
            else range(len(holder))
            if isinstance(holder, list)
            else []
        )
        found += [(holder, key) for key in keys]
        waiting += [holder[key] for key in keys]
    return found


def change_json(data: bytes, chance: random.Random) -> bytes:
    """A JSON map changed; raises ValueError where it is none."""
    try:
        return dump_json(change(load_json(data), chance))
    except TypeError as error:
        raise ValueError("JSON has no bytes") from error


def change_packed(data: bytes, chance: random.Random) -> bytes:
    """A msgpack value changed; raises ValueError where it is none."""
    try:
        packed: bytes = msgpack.packb(change(unpack_whole(data), chance))
    except (TypeError, OverflowError) as error:
        raise ValueError("it can't be packed") from error
    return packed

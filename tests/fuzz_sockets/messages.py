"""Messages that should not be: fields of any type and size, numbers that are none, and all kinds out of order."""

from __future__ import annotations

import os
import random
from dataclasses import fields
from typing import Any

import msgpack

from ckptd import control, protocol
from ckptd.protocol import VERSION, Message

AGENTS = (
    protocol.Hello, protocol.Progress, protocol.Notice, protocol.Due, protocol.Dumped, protocol.Undumped,
    protocol.Resumed, protocol.Refused, protocol.Finished, protocol.Said,
)  # fmt: skip
SUPERVISORS = (protocol.Welcome, protocol.Dump, protocol.Saved, protocol.Unsaved)
HARMLESS = (control.Look, control.Mind, control.Save, control.Follow, control.Tell, control.Start)
"""What can be asked for in any way without the job being ended by it, which is anybody's right who has the socket."""

NUMBERS = (
    0, 1, -1, 2, 255, 2**31, -(2**31), 2**32, 2**53, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.5, 0.1,
    1e-300, 1e18, 1e300, -1e300, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
TEXTS = (
    "", "a", "\0", "a\nb", "\x1b[2J", "é" * 100, "../../etc/passwd", "/dev/shm/x", "/" * 5000, "x" * 300,
    "1-abcdef", "0123abcd", "nan", "%s%n", "\ud7ff", "\U0010ffff" * 50, "leave now", "user",
)  # fmt: skip


def anything(chance: random.Random, depth: int = 0) -> Any:
    """A value of any type."""
    roll = chance.random()
    if roll < 0.35:
        return chance.choice(NUMBERS)
    if roll < 0.7:
        return chance.choice(TEXTS)
    if roll < 0.8:
        return chance.choice((None, True, False, b"", b"\xff\xfe", chance.randbytes(30)))
    if roll < 0.9 or depth > 3:
        return [anything(chance, depth + 1) for _ in range(chance.randrange(4))] if depth <= 3 else []
    return {chance.choice(TEXTS): anything(chance, depth + 1) for _ in range(chance.randrange(4))}


def fitting(chance: random.Random, annotation: str) -> Any:
    """A value of the type that is asked for, and as odd as that can be."""
    if annotation in ("int", "float", "float | None"):
        odd = chance.choice(NUMBERS)
        return int(odd) if annotation == "int" and abs(odd) < 1e18 else odd
    if annotation == "bool":
        return chance.random() < 0.5
    if annotation == "list[str]":
        return [chance.choice(TEXTS) for _ in range(chance.randrange(5))]
    if annotation == "dict[str, Any]":
        return {chance.choice(TEXTS): anything(chance)}
    return chance.choice(TEXTS)


def odd(chance: random.Random, kind: type[Message], strict: float = 0.6) -> bytes:
    """One of that kind; with a chance of ``strict`` each of its fields has a value of its type."""
    values = {
        field.name: fitting(chance, str(field.type)) if chance.random() < strict else anything(chance)
        for field in fields(kind)
    }
    if kind is control.Tell:
        values["kind"] = chance.choice(("advice", "pause", "", "LEAVE", 7, None))
        values["on_notice"] = chance.choice(("", "stay", "go", [], 3))
    if chance.random() < 0.1:
        values.pop(chance.choice(list(values)), None) if values else None
    if chance.random() < 0.1:
        values[chance.choice(TEXTS)] = anything(chance)
    return encode([VERSION, kind.__name__.lower(), values])


def halt(chance: random.Random) -> bytes:
    """A request to end the job that can't be meant."""
    grace: Any = chance.choice((-1.0, float("nan"), float("inf"), -1e300, "soon", [], 2**63))
    return encode([VERSION, "halt", {"ask": "x", "grace": grace, "unsaved": False}])


def any_request(chance: random.Random) -> bytes:
    """To a supervisor or a daemon, from anybody."""
    return halt(chance) if chance.random() < 0.05 else odd(chance, chance.choice(HARMLESS))


def shapeless(chance: random.Random) -> bytes:
    """Values that are no message at all, bombs among them."""
    return chance.choice(
        (
            lambda: b"\x91" * 5000 + b"\xc0",  # nested deep
            lambda: b"\xdd\x00\x00\x70\x00" + b"\x90" * 0x7000,  # many empty lists
            lambda: b"\x93\x01\xa4look\xdf\xff\xff\xff\xff",  # a map that says it is large
            lambda: encode([VERSION, "look", {"ask": "x" * 30_000}]),
            lambda: encode([VERSION, "tell", ["not", "a", "map"]]),
            lambda: encode([VERSION, ["look"], {}]),
            lambda: encode([2, "look", {"ask": "x"}]),
            lambda: encode([VERSION, "request", {"ask": "x"}]),
            lambda: encode(anything(chance)),
            lambda: chance.randbytes(chance.randrange(200)),
            lambda: b"",
        )
    )()


def encode(value: Any) -> bytes:
    """As msgpack, whatever it is."""
    try:
        return bytes(msgpack.packb(value, use_bin_type=True, unicode_errors="surrogatepass"))
    except (OverflowError, ValueError):
        return b"\xc1"


def rival(chance: random.Random, agent: int) -> list[bytes]:
    """What a process says that would be the job's agent."""
    pid = chance.choice((agent, os.getpid(), 1, 0, -1, 2**31 - 1, 2**53, 2**63))
    hello = encode(
        [VERSION, "hello", {"pid": pid, "rank": 0, "world_size": 1, "argv": [], "python": "", "resume": ""}]
    )
    return [hello, *(odd(chance, chance.choice(AGENTS), 0.9) for _ in range(5))]

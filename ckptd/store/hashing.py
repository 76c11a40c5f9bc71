"""Hashes of files, written 'ALGORITHM:HEX'."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Protocol

from ckptd.errors import RefusedError

BUILT_IN = "blake2b_128"
WRITTEN = re.compile(r"(?P<algorithm>[a-z0-9_]{1,32}):(?P<hex>[0-9a-f]{32,128})")


class Hasher(Protocol):
    """What hashlib and xxhash have in common."""

    def update(self, data: memoryview | bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def _blake2b_128() -> Hasher:
    return hashlib.blake2b(digest_size=16)


def _xxh3_128() -> Callable[[], Hasher] | None:
    try:
        import xxhash
    except ImportError:
        return None
    return xxhash.xxh3_128


def fastest() -> str:
    """The algorithm to write with here."""
    return BUILT_IN if _xxh3_128() is None else "xxh3_128"


def hasher(algorithm: str) -> Hasher:
    """A fresh hasher; raises RefusedError if this installation doesn't have the algorithm."""
    if algorithm == BUILT_IN:
        return _blake2b_128()
    if algorithm == "xxh3_128":
        make = _xxh3_128()
        if make is None:
            raise RefusedError(
                "its hashes are xxh3_128, which needs the package xxhash: pip install 'ckptd[fast]'"
            )
        return make()
    raise RefusedError(f"its hashes are {algorithm}, which this version of ckptd doesn't know: update ckptd")


def written(algorithm: str, done: Hasher) -> str:
    """A finished hash, as it stands in a manifest."""
    return f"{algorithm}:{done.hexdigest()}"


def algorithm_of(text: str) -> str:
    """The algorithm of a hash in a manifest; raises ValueError if it isn't one."""
    match = WRITTEN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:80]!r} is not ALGORITHM:HEX")
    return match["algorithm"]

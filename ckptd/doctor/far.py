"""How fast a remote takes and gives, measured with an object that is removed again.

As an upload does it: several pieces at once (ckptd.remote.lanes), with twice as many bytes as before until it
takes long enough to be believed.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from ckptd.doctor.rates import Advance
from ckptd.errors import RemoteError
from ckptd.remote.backend import Backend, open_backend
from ckptd.remote.lanes import LANES, in_lanes

FIRST_BYTES = 256 << 10
LAST_BYTES = 16 << 20
"""Of one object, the least and the most; there are LANES of them."""
ENOUGH_SECONDS = 0.5
"""A round that took this long is believed."""


def measure_remote(url: str, advance: Advance) -> tuple[float, float]:
    """(up, down), bytes a second. Raises RemoteError, UsageError."""
    backend = open_backend(url)
    names = [f"ckptd-doctor-{os.urandom(8).hex()}-{lane}" for lane in range(LANES)]
    size = FIRST_BYTES
    try:
        while True:
            # Other bytes each time and in each: a server or a disk that knows them already would seem fast.
            contents = {name: os.urandom(size) for name in names}
            up = _write(backend, contents)
            advance(LANES * size)
            if up >= ENOUGH_SECONDS or 2 * size > LAST_BYTES:
                break
            size *= 2
        down = _read(backend, contents)
        advance(LANES * size)
    finally:
        for name in names:
            with suppress(RemoteError):  # what was wrong has been said, or is being said
                backend.remove(name)
    return LANES * size / up, LANES * size / down


def _write(backend: Backend, contents: dict[str, bytes]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    in_lanes(contents, lambda name: backend.write(name, contents[name]))
    return time.perf_counter() - begun


def _read(backend: Backend, contents: dict[str, bytes]) -> float:
    def read(name: str) -> None:
        if backend.read(name, len(contents[name])) != contents[name]:
            raise RemoteError(f"{backend.url} gives back other bytes than it was given", again=False)

    begun = time.perf_counter()
    in_lanes(contents, read)
    return time.perf_counter() - begun

"""No warning is shown for what the agent does, and none is forgotten that was shown."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_IGNORE = ("ignore", None, Warning, None, 0)


@contextmanager
def warnings_off() -> Iterator[None]:
    """Nothing is shown, and nothing forgotten: ``warnings.catch_warnings`` would let every warning that was shown be
    shown once more."""
    filters = warnings.filters
    if not isinstance(filters, list):  # a program's own arrangement: it shows what it likes
        yield
        return
    filters.insert(0, _IGNORE)
    try:
        yield
    finally:
        # By identity, for the program may have put others there meanwhile.
        del filters[next(at for at, each in enumerate(filters) if each is _IGNORE)]

"""The files that the program has opened for writing, in their order."""

from __future__ import annotations

import builtins
import io
import weakref
from typing import Any

_opened: list[weakref.ref[Any]] = []
real_open = io.open


def install() -> None:
    """See what the program opens."""
    builtins.open = _watched
    io.open = _watched


def _watched(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
    result = real_open(file, mode, *args, **kwargs)
    if any(letter in mode for letter in "wax+"):
        note(result)
    return result


def note(file: Any) -> None:
    """Remember a file that was opened for writing."""
    _opened[:] = [each for each in _opened if each() is not None]
    _opened.append(weakref.ref(file))


def living() -> list[Any]:
    """Files opened for writing that are still open."""
    return [file for file in (each() for each in _opened) if file is not None and not file.closed]

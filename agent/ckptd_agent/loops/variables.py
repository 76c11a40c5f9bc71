"""Reads the variables of a running frame, and leaves no trace on it.

Up to 3.12 ``f_locals`` of a function is a dictionary that the frame keeps until its end, the same one that
``locals()`` gives. What the program deletes meanwhile would live on in there, and with it the memory of a
model; and what ``locals()`` gave earlier would change under the program's hands.
"""

from __future__ import annotations

import ctypes
import sys
from inspect import CO_OPTIMIZED
from types import FrameType
from typing import Any

_PLACE = {(3, 10): (0, 56), (3, 11): (24, 24), (3, 12): (24, 40)}.get(sys.version_info[:2], (0, 0))
"""Where the interpreter keeps that dictionary: offset of the pointer to the frame proper in the frame
object (0: it is the same), and of the pointer to the dictionary in there, in bytes."""
_HELD = 4 if sys.version_info >= (3, 11) else 5
"""References to a dictionary that nobody else knows of: the frame's, the caller's variable, the parameter
of ``_restore``, the argument that getrefcount takes (and, in 3.10, the caller's stack)."""


def read(frame: FrameType) -> dict[str, Any]:
    """The frame's variables, in a dictionary of their own."""
    if sys.version_info >= (3, 13) or not frame.f_code.co_flags & CO_OPTIMIZED:
        return dict(frame.f_locals)
    earlier = _kept(frame) if _PLACE[1] else None
    before = dict(earlier) if earlier is not None else None
    names = frame.f_locals
    result = dict(names)
    del earlier
    _restore(names, before)
    return result


def _kept(frame: FrameType) -> dict[str, Any] | None:
    """The dictionary that a function's frame has from an earlier ``locals()``, as that has left it."""
    outer, inner = _PLACE
    address = ctypes.c_void_p.from_address(id(frame) + outer).value if outer else id(frame)
    pointer = ctypes.c_void_p.from_address((address or 0) + inner).value if address else None
    return ctypes.cast(pointer, ctypes.py_object).value if pointer else None


def _restore(names: dict[str, Any], before: dict[str, Any] | None) -> None:
    if sys.getrefcount(names) == _HELD:
        names.clear()
    elif before is not None:
        names.clear()
        names.update(before)


def _is_the_place() -> bool:
    """Try it out, in an interpreter that says that it is an ordinary one."""
    if not _PLACE[1] or hasattr(sys, "gettotalrefcount") or object.__basicsize__ != 16:
        return False
    frame = sys._getframe()
    empty = _kept(frame) is None
    given = locals()
    return empty and _kept(frame) is given


if not _is_the_place():
    _PLACE = (0, 0)

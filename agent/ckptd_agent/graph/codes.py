"""Finds the code objects of functions that were made by other functions, wherever these are written."""

from __future__ import annotations

import sys
import types
from typing import Any

from ckptd_agent.source import table


def code_of(place: tuple[str, str] | None, line: int) -> types.CodeType | None:
    """The code of a function that was made by another one: ``place`` is the module that it is written in and its name.

    None where nothing fits, or several that differ.
    """
    if place is None:
        return None
    module, name = place
    own = [code for code, source in table.CODES.values() if source.name == module]
    fits = [
        code for code in own or _library_codes(module) if code.co_name == name and code.co_firstlineno == line
    ]
    return fits[0] if fits and all(each == fits[0] for each in fits) else None


def _library_codes(name: str) -> list[types.CodeType]:
    """All code of an imported module that its functions and classes lead to."""
    module = sys.modules.get(name)
    found: dict[int, types.CodeType] = {}
    waiting: list[Any] = list(vars(module).values()) if module is not None else []
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, types.FunctionType):
            if each.__globals__ is vars(module):
                found.update((id(code), code) for code in table.nested_codes(each.__code__))
            waiting.append(getattr(each, "__wrapped__", None))
        elif isinstance(each, type) and each.__module__ == name:
            waiting.extend(vars(each).values())
        elif isinstance(each, staticmethod | classmethod):
            waiting.append(each.__func__)
        elif isinstance(each, property):
            waiting.extend((each.fget, each.fset))
    return list(found.values())

"""Finds the code objects of functions that were made by other functions, wherever these are written."""

from __future__ import annotations

import sys
import types
from collections import Counter
from typing import Any

from ckptd_agent.source import table

_turns: dict[int, int] = {}
"""id() of every code object of the user's to its turn among those of its name that begin in the same line."""


def place_of(code: types.CodeType, module: str) -> list[Any]:
    """Where a function is written: the module, its name, and its turn among those of that name in its line."""
    if len(_turns) != len(table.CODES):
        _turns.clear()
        seen: Counter[tuple[str, str, int]] = Counter()
        for each, source in table.CODES.values():
            key = (source.name, each.co_name, each.co_firstlineno)
            _turns[id(each)] = seen[key]
            seen[key] += 1
    return [module, code.co_name, _turns.get(id(code), -1)]


def code_of(place: list[Any] | None, line: int) -> types.CodeType | None:
    """The code of a function that was made by another one, from its place; None where none fits, or several do."""
    if place is None:
        return None
    module, name, *rest = place
    own = [code for code, source in table.CODES.values() if source.name == module]
    fits = [
        code for code in own or _library_codes(module) if code.co_name == name and code.co_firstlineno == line
    ]
    turn = int(rest[0]) if rest else -1
    if own and 0 <= turn < len(fits):
        return fits[turn]
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

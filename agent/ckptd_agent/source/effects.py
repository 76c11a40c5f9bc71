"""What a function of the user's may change of the values that its caller has read already.

In ``total + f()`` the value of ``total`` waits on the stack while f runs. A replay reads it again from restored
variables; so if f, or anything that f leads to, may assign ``total``, that would be another value. All of this
goes by names, on the safe side: two functions of one name count as one, and whatever is mentioned may be called.
"""

from __future__ import annotations

import ast
import functools

INSIDE = "inside"
"""Stands for a value computed from what an object holds: an item of it, its length, its text."""
Effects = dict[str, tuple[frozenset[str], frozenset[str]]]
"""By function: names that it mentions, and what it changes ('=name', '.attribute', INSIDE)."""
_CHANGING = frozenset(
    name
    for kind in (list, dict, set, bytearray)
    for name in dir(kind)
    if name
    in {"append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault", "sort"}
    or name.endswith("update")
    or name in {"add", "discard"}
) | {"appendleft", "extendleft", "popleft", "rotate", "shuffle", "step", "backward", "fill", "copyto", "put"}


def effects_of(trees: list[ast.Module]) -> Effects:
    """The effects of all functions, methods and lambdas of some modules."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for node in (each for tree in trees for each in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            mentions, changes = found.setdefault(getattr(node, "name", "<lambda>"), (set(), set()))
            _add(node, mentions, changes)
        elif isinstance(node, ast.ClassDef):  # its instances are made by what is mentioned by its name
            mentions, _ = found.setdefault(node.name, (set(), set()))
            mentions.update(each.name for each in node.body if isinstance(each, ast.FunctionDef))
    return {name: (frozenset(mentions), frozenset(changes)) for name, (mentions, changes) in found.items()}


def _add(function: ast.AST, mentions: set[str], changes: set[str]) -> None:
    outer: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Global | ast.Nonlocal):
            outer.update(node.names)
    for node in ast.walk(function):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                mentions.add(name)
            case ast.Name(id=name):
                if name in outer:
                    changes.add(f"={name}")
            case ast.Attribute(attr=name, ctx=ast.Load()):
                mentions.add(name)
                if name in _CHANGING or (name.endswith("_") and not name.endswith("__")):
                    changes.add(INSIDE)
            case ast.Attribute(attr=name):
                changes.update((f".{name}", INSIDE))
            case ast.Subscript(ctx=ast.Store() | ast.Del()):
                changes.add(INSIDE)
            case ast.AugAssign():
                changes.add(INSIDE)
            case ast.Lambda():
                mentions.add("<lambda>")
            case _:
                pass


@functools.lru_cache(maxsize=1024)
def _reached(function: str, key: int) -> frozenset[str]:
    effects = _tables[key]
    seen: set[str] = set()
    waiting = [function]
    changes: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in effects:
            continue
        seen.add(name)
        mentions, changed = effects[name]
        changes |= changed
        waiting.extend(mentions)
    return frozenset(changes)


_tables: dict[int, Effects] = {}


def may_change(reads: frozenset[str], function: str, effects: Effects) -> bool:
    """Whether the function, called by this name, may change what was read before."""
    if function not in effects:
        return bool(reads)
    _tables[id(effects)] = effects
    return bool(reads & _reached(function, id(effects)))

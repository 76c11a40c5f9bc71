"""Names of a checkpoint's tensors for other programs, and what of it fits into state dicts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ckptd.store.contents import Contents, TensorView
from ckptd.store.graph import Node, keeps_parameters, pairs, reference

DEEPEST = 8
MOST = 100_000
"""Values of one variable; larger ones are left out."""


def short_names(contents: Contents) -> dict[str, TensorView]:
    """All tensors that have bytes of their own, by the shortest name that is unique: 'model.0.weight'."""
    views = [view for view in contents.tensors.values() if view.storage]
    scopes = sorted({variable.scope for variable in contents.variables}, key=len, reverse=True)
    short: dict[str, list[TensorView]] = {}
    for view in views:
        short.setdefault(_without_scope(view.path, scopes), []).append(view)
    named: dict[str, TensorView] = {}
    for name, same in short.items():
        for view in same:
            unique = name if len(same) == 1 else view.path
            named[unique if unique not in named else f"{unique}#{view.number}"] = view
    return named


def _without_scope(path: str, scopes: list[str]) -> str:
    for scope in scopes:
        if path.startswith(f"{scope}."):
            return path[len(scope) + 1 :]
    return path


def spec(view: TensorView) -> dict[str, Any]:
    """What the process with torch needs to know of a tensor."""
    fields = asdict(view)
    return {key: fields[key] for key in ("storage", "dtype", "shape", "stride", "offset", "nbytes")}


class Tree:
    """The program's variables as dicts, lists, numbers and tensors: modules and optimizers as state dicts."""

    def __init__(self, contents: Contents, named: dict[str, TensorView]) -> None:
        self._graph = contents.graph
        self._names = {view.number: name for name, view in named.items()}
        self._left = 0

    def build(self) -> dict[str, Any]:
        """By name of variable; an inner scope's variable comes before one of the same name further out."""
        tree: dict[str, Any] = {}
        for _, variables in self._graph.scopes():
            for name, child in variables:
                self._left = MOST
                value = self._value(child, 0)
                if value is not _NOTHING:
                    tree[name] = value
        return tree

    def _value(self, child: Any, depth: int) -> Any:
        self._left -= 1
        number = reference(child)
        if self._left < 0 or depth > DEEPEST:
            return _NOTHING
        if number is None:
            return _atom(child)
        if number in self._names:
            return {"$tensor": self._names[number]}
        node = self._graph.node(number)
        try:
            return self._object(node, depth)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            return _NOTHING

    def _object(self, node: Node, depth: int) -> Any:
        if node[0] in ("list", "tuple"):
            values = [self._value(child, depth + 1) for _, child in self._graph.children(node)]
            if any(value is _NOTHING for value in values):
                return _NOTHING
            return values if node[0] == "list" else {"$tuple": values}
        if node[0] == "dict" or (node[0] == "derived" and node[2] == "dict"):
            return self._dict(node[1] if node[0] == "dict" else node[3], depth)
        if node[0] == "object" and keeps_parameters(node[2]):
            state: dict[str, Any] = {}
            self._module(node, "", state, 0)
            return state
        own = dict(pairs(node[2])) if node[0] == "object" else {}
        if {"state", "param_groups", "defaults"} <= set(own):
            return self._optimizer(own)
        return _NOTHING

    def _dict(self, items: Any, depth: int) -> Any:
        found = []
        for key, child in pairs(items):
            value = self._value(child, depth + 1)
            if isinstance(key, str | int | float | bool) and value is not _NOTHING:
                found.append([key, value])
        return {"$pairs": found}

    def _node(self, child: Any) -> Node:
        number = reference(child)
        return self._graph.node(-1 if number is None else number)

    def _module(self, node: Node, prefix: str, state: dict[str, Any], depth: int) -> None:
        """The module's state dict, as torch would name it."""
        own = dict(pairs(node[2]))
        hidden = self._node(own.get("_non_persistent_buffers_set"))
        skipped = hidden[1] if hidden[0] == "set" and isinstance(hidden[1], list) else []
        for part in ("_parameters", "_buffers"):
            for name, child in self._items(own[part]):
                number = reference(child)
                if number in self._names and name not in skipped:
                    state[f"{prefix}{name}"] = {"$tensor": self._names[number]}
        if depth < 64:
            for name, child in self._items(own["_modules"]):
                below = self._node(child)
                if below[0] == "object" and keeps_parameters(below[2]):
                    self._module(below, f"{prefix}{name}.", state, depth + 1)

    def _items(self, child: Any) -> list[tuple[Any, Any]]:
        node = self._node(child)
        return list(pairs(node[1] if node[0] == "dict" else node[3] if node[0] == "derived" else []))

    def _optimizer(self, own: dict[Any, Any]) -> Any:
        """As Optimizer.state_dict() has it: parameters by their number."""
        order: dict[int, int] = {}
        groups = []
        for child in self._node(own["param_groups"])[1]:
            group = dict(self._items(child))
            numbers = [reference(each) for each in self._node(group.pop("params"))[1]]
            places = [order.setdefault(number, len(order)) for number in numbers if number is not None]
            values = {key: self._value(value, 2) for key, value in group.items()}
            groups.append({**{k: v for k, v in values.items() if v is not _NOTHING}, "params": places})
        state = []
        for key, child in self._items(own["state"]):
            number = reference(key)
            place = order.get(number) if number is not None else None
            value = self._value(child, 1)
            if place is not None and value is not _NOTHING:
                state.append([place, value])
        return {"state": {"$pairs": state}, "param_groups": groups}


_NOTHING = object()


def _atom(child: Any) -> Any:
    return child if child is None or isinstance(child, bool | int | float | str) else _NOTHING

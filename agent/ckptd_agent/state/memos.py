"""functools.lru_cache and cache: what they remember is state, as the function may draw random numbers or count.

Nothing can be put into such a cache from outside but by a call, so the entries are called in again, in their
order, while the function stands for one that returns what is remembered.
"""

from __future__ import annotations

import functools
import gc
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.functions import find_named
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import KEYED, Child, Kind, Node, register
from ckptd_agent.source import table

MOST_CALLS = 1 << 20
"""Hits and misses beyond this are not counted in again."""
Entry = tuple[tuple[Any, ...], dict[str, Any], Any]
"""Positional arguments, keyword arguments, and what was returned."""


class Memo(Kind):
    name = "memo"
    exact = (functools._lru_cache_wrapper,)
    turn = KEYED

    def capture(self, obj: Any, capture: Capture) -> Node:
        named: Node = [obj.__module__, obj.__qualname__]
        function = obj.__wrapped__
        code = getattr(function, "__code__", None)
        if code is None or table.source_of(code) is None:
            return [*named, None, None, [], 0, 0]  # a library's: what it remembers has no effects
        entries = [
            [capture.children(args), list(kwargs), capture.children(kwargs.values()), capture.child(result)]
            for args, kwargs, result in remembered(obj)
        ]
        info = obj.cache_info()
        parameters = [info.maxsize, obj.cache_parameters()["typed"]]
        return [*named, capture.child(function), parameters, entries, info.hits, info.misses]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return isinstance(fresh, self.exact) and (fresh.__module__, fresh.__qualname__) == (node[1], node[2])

    def keys(self, node: Node) -> list[Child]:
        return [child for args, _, values, _ in node[5] for child in (*args, *values)]

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        graft.pair(node[3], fresh.__wrapped__)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        if node[3] is None:
            return find_named(node[1], node[2]) or graft.missing(f"function {node[1]}.{node[2]} with a cache")
        return functools.lru_cache(*node[4])(graft.value(node[3]))

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        if node[3] is None:
            return
        entries = [
            (
                tuple(graft.values(args)),
                dict(zip(names, graft.values(values), strict=True)),
                graft.value(result),
            )
            for args, names, values, result in node[5]
        ]
        remember(obj, entries, node[6], node[7])


def remembered(cached: Any) -> list[Entry]:
    """The entries of a cache, oldest first: the garbage collector sees them."""
    info = cached.cache_info()
    referents = gc.get_referents(cached)
    table_ = next(
        (each for each in referents if type(each) is dict and each is not cached.__dict__ and each), {}
    )
    if info.maxsize is None:
        pairs = list(table_.items())
    else:
        # Keys and results of the list of entries come in turn, in front of all else that is there.
        keys, pairs, place = {id(key) for key in table_}, [], 0
        while len(pairs) < len(table_):
            if id(referents[place]) in keys:
                pairs.append((referents[place], referents[place + 1]))
                place += 1
            place += 1
    typed = cached.cache_parameters()["typed"]
    return [(*_arguments(key, typed), result) for key, result in pairs]


def _arguments(key: Any, typed: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that a key was made of: see functools._make_key."""
    if type(key) is not tuple:
        return (key,), {}
    mark = next((place for place, each in enumerate(key) if type(each) is object), None)
    if mark is None:
        return (key[: len(key) // 2] if typed else key), {}
    named = key[mark + 1 :]
    if typed:
        named = named[: 2 * (len(named) - mark) // 3]
    return key[:mark], dict(zip(named[::2], named[1::2], strict=True))


def remember(cached: Any, entries: list[Entry], hits: int, misses: int) -> None:
    """Let a cache hold these entries, and have counted so many hits and misses."""
    cached.cache_clear()
    with _standing_in(cached.__wrapped__) as returns:
        if len(entries) == cached.cache_info().maxsize:
            for _ in range(min(misses - len(entries), MOST_CALLS)):
                cached(object())  # pushed out by those below
        for args, kwargs, result in entries:
            returns(result)
            cached(*args, **kwargs)
        if entries:
            args, kwargs, _ = entries[-1]
            for _ in range(min(hits, MOST_CALLS)):
                cached(*args, **kwargs)


@contextmanager
def _standing_in(function: types.FunctionType) -> Iterator[Any]:
    """Let a function, for a while, return what the yielded function was last called with."""
    code = function.__code__
    template = _template.__code__.replace(co_freevars=code.co_freevars)

    def returns(result: Any) -> None:
        constants = tuple(result if each == "result" else each for each in template.co_consts)
        function.__code__ = template.replace(co_consts=constants)

    returns(None)
    try:
        yield returns
    finally:
        function.__code__ = code


def _template(*args: Any, **kwargs: Any) -> Any:
    return "result"


register(Memo)

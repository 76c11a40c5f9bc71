"""Iterators and results of C modules that are made again from what they read: csv.reader, flat arrays, matches."""

from __future__ import annotations

import _csv
import gc
import re
from itertools import chain, repeat
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import ITERATORS, Kind, Node, register

_READER: Any = type(_csv.reader(()))
_EMPTY: dict[Any, Any] = {}
_VIEWS: tuple[Any, ...] = (type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()))


class _Lines(chain[Any]):
    """Lines to be counted, then the real ones: how a reader is made that has read some."""

    real: Any


_HOWS = ("match", "fullmatch", "search")


class CsvReader(Kind):
    """Between two rows all that it knows is how many lines it has read."""

    name = "csv_reader"
    exact = (_READER,)
    mutable = False
    turn = ITERATORS

    def capture(self, obj: Any, capture: Capture) -> Node:
        lines = _source_of(obj)
        return [capture.child(lines), obj.line_num, _dialect(obj.dialect)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return type(fresh) is _READER and _dialect(fresh.dialect) == node[3]

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        graft.pair(node[1], _source_of(fresh))

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        lines = graft.value(node[1])
        graft.fill(ITERATORS)
        if fresh is not None and _source_of(fresh) is lines and fresh.line_num == node[2]:
            return fresh
        names = ("delimiter", "quotechar", "escapechar", "doublequote", "skipinitialspace", "lineterminator",
                 "quoting", "strict")  # fmt: skip
        counted = _Lines(repeat("", node[2]), lines)
        counted.real = lines
        made = _csv.reader(counted, **dict(zip(names, node[3], strict=True)))
        for _ in range(node[2]):
            next(made)
        return made


def _source_of(reader: Any) -> Any:
    """What a reader takes its lines from; nothing tells but the garbage collector."""
    found = next(each for each in gc.get_referents(reader) if hasattr(each, "__next__"))
    if type(found) is _Lines:
        return found.real
    return found


def _dialect(dialect: Any) -> list[Any]:
    return [
        dialect.delimiter, dialect.quotechar, dialect.escapechar, bool(dialect.doublequote),
        bool(dialect.skipinitialspace), dialect.lineterminator, int(dialect.quoting), bool(dialect.strict),
    ]  # fmt: skip


class Match(Kind):
    """The result of a regular expression: matched once more."""

    name = "match"
    exact = (re.Match,)
    mutable = False

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [capture.child(obj.re), capture.child(obj.string), obj.pos, obj.endpos, list(obj.span())]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        pattern, text = graft.values(node[1:3])
        if fresh is not None and (fresh.re, fresh.string, list(fresh.span())) == (pattern, text, node[5]):
            return fresh
        for start in (node[3], node[5][0]):  # finditer goes on behind the match before
            for how in _HOWS:
                found = getattr(pattern, how)(text, start, node[4])
                if found is not None and list(found.span()) == node[5]:
                    return found
        return graft.missing("match of a regular expression")


class View(Kind):
    """``d.keys()``, ``d.values()``, ``d.items()``, kept in a variable."""

    name = "view"
    exact = _VIEWS
    mutable = False

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [_VIEWS.index(type(obj)), capture.child(_viewed(obj))]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return type(fresh) is _VIEWS[node[1]]

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        graft.pair(node[2], _viewed(fresh))

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        viewed = graft.value(node[2])
        if fresh is not None and _viewed(fresh) is viewed:
            return fresh
        return (viewed.keys, viewed.values, viewed.items)[node[1]]()


def _viewed(view: Any) -> Any:
    return next(each for each in gc.get_referents(view) if isinstance(each, dict))


register(CsvReader, Match, View)

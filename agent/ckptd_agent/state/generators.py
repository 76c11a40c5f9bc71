"""Generators: a fresh one is drawn from until it stands at the saved instruction, then its variables are set.

Iterators of its for loops lie on its value stack, where they can be read (the garbage collector sees them)
but not exchanged: they are set in place.
"""

from __future__ import annotations

import types
from typing import Any

from ckptd_agent.graph import frames
from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import ITERATORS, Kind, Node, register
from ckptd_agent.graph.sets import Unordered
from ckptd_agent.source import table
from ckptd_agent.state.iterators import hidden_iterators, leads_to, settle

MOST_DRAWS = 10_000
"""A generator whose first so many yields don't come to the saved place is given up."""


class Generator(Kind):
    name = "generator"
    exact = (types.GeneratorType,)
    turn = ITERATORS

    def capture(self, obj: types.GeneratorType[Any, Any, Any], capture: Capture) -> Node:
        code = obj.gi_code
        key = [code.co_filename.rpartition("/")[2], code.co_name, code.co_firstlineno]
        frame = obj.gi_frame
        if frame is None:
            return [key, "finished", 0, [], []]
        if obj.gi_running:
            capture.trouble(f"the generator {code.co_name} is running")
            return [key, "running", 0, [], []]
        own = dict(frame.f_locals)
        # A library's: what it keeps in sets it looks up, and does not iterate.
        if table.source_of(code) is None:
            capture.scratch(Unordered).ids.update(id(each) for each in own.values() if type(each) is set)
        hidden = _on_stack(obj)
        state = "fresh" if frame.f_lasti < 0 or _not_started(obj) else "suspended"
        return [key, state, frame.f_lasti, capture.items(own.items()), capture.children(hidden)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        if type(fresh) is not types.GeneratorType:
            return False
        code = fresh.gi_code
        return bool([code.co_filename.rpartition("/")[2], code.co_name, code.co_firstlineno] == node[1])

    def match(self, node: Node, fresh: types.GeneratorType[Any, Any, Any], graft: Graft) -> None:
        if fresh.gi_frame is None:
            return
        own = fresh.gi_frame.f_locals
        for name, value in zip(node[4][::2], node[4][1::2], strict=True):
            if name in own:
                graft.pair(value, own[name])

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        if node[2] == "finished":
            return _finished()
        return graft.missing(f"generator {node[1][1]}")

    def fill(self, node: Node, obj: types.GeneratorType[Any, Any, Any], graft: Graft) -> None:
        _, key, state, lasti, own, hidden = node
        library = table.source_of(obj.gi_code) is None
        if library and graft.lenient:
            return  # only the last graft knows all that tells how far it must be drawn from
        if state == "finished":
            obj.close()
            return
        if state == "suspended":
            _draw(node, obj, graft)
        if (
            obj.gi_frame is None
            or (state == "suspended") == _not_started(obj)
            or obj.gi_frame.f_lasti != lasti
        ):
            raise graft.refuse(
                f"the generator {key[1]} can't be brought back to where it stood at the checkpoint"
            )
        self._set(node, obj, graft, own, hidden)

    def _set(self, node: Node, obj: Any, graft: Graft, own: list[Any], hidden: list[Any]) -> None:
        now = obj.gi_frame.f_locals
        for name, value in zip(own[::2], own[1::2], strict=True):
            if name in now:
                graft.pair(value, now[name])
        fresh = _on_stack(obj)
        if len(fresh) != len(hidden):
            raise graft.refuse(f"the loops of the generator {node[1][1]} can't be told apart")
        for child, each in zip(hidden, fresh, strict=True):
            settle(child, each, graft)
        graft.match()
        values = graft.values(own)
        graft.fill(ITERATORS)
        frames.write(obj.gi_frame, dict(zip(values[::2], values[1::2], strict=True)))


def _draw(node: Node, obj: types.GeneratorType[Any, Any, Any], graft: Graft) -> None:
    """Draw until the generator stands where it stood, if it comes there."""
    for _ in range(MOST_DRAWS):
        if _stands_at(node, obj, graft):
            return
        graft.stirred = True
        if next(obj, graft) is graft:
            return


def _stands_at(node: Node, obj: types.GeneratorType[Any, Any, Any], graft: Graft) -> bool:
    """The generator stands at the saved instruction; a library's also over the saved contents.

    torch's ``parameters()`` yields in one place for all modules: what its inner iterators have left tells which.
    """
    if obj.gi_frame is None or _not_started(obj) or obj.gi_frame.f_lasti != node[3]:
        return False
    if table.source_of(obj.gi_code) is not None:
        return True
    found = _on_stack(obj)
    return len(found) == len(node[5]) and all(
        _may_be_settled(child, each, graft) for child, each in zip(node[5], found, strict=True)
    )


def _may_be_settled(child: Any, obj: Any, graft: Graft) -> bool:
    node = graft.node(child[0])
    if node[0] == "generator":
        return type(obj) is types.GeneratorType and _stands_at(node, obj, graft)
    return leads_to(node, obj, graft)


def _on_stack(obj: types.GeneratorType[Any, Any, Any]) -> list[Any]:
    """Iterators of its for loops, and what it yields from."""
    found = hidden_iterators(obj)
    if obj.gi_yieldfrom is not None and all(obj.gi_yieldfrom is not each for each in found):
        found.append(obj.gi_yieldfrom)
    return found


def _not_started(obj: types.GeneratorType[Any, Any, Any]) -> bool:
    import inspect

    return inspect.getgeneratorstate(obj) == inspect.GEN_CREATED


def _finished() -> Any:
    nothing: tuple[Any, ...] = ()
    empty = (each for each in nothing)
    next(empty, None)
    return empty


register(Generator)

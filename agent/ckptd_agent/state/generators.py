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
from ckptd_agent.state.iterators import hidden_iterators, settle

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
        if table.source_of(code) is None:  # a library's: what it keeps in sets it looks up, and does not iterate
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
        if state == "finished":
            obj.close()
            return
        drawn = 0
        while (
            state == "suspended"
            and obj.gi_frame is not None
            and (drawn == 0 or obj.gi_frame.f_lasti != lasti)
        ):
            if drawn == 0 and not _not_started(obj) and obj.gi_frame.f_lasti == lasti:
                break
            if drawn > MOST_DRAWS or next(obj, graft) is graft:
                break
            drawn += 1
            graft.stirred = True
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

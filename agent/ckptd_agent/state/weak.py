"""Weak dictionaries: their items are state, as long as something else holds what they refer to weakly."""

from __future__ import annotations

import weakref
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import KEYED, Kind, Node, register


class WeakDict(Kind):
    name = "weak_dict"
    exact = (weakref.WeakKeyDictionary, weakref.WeakValueDictionary)
    turn = KEYED

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [type(obj).__name__, capture.items(list(obj.items()))]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return bool(type(fresh).__name__ == node[1])

    def keys(self, node: Node) -> list[Any]:
        return list(node[2][::2])

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return getattr(weakref, node[1])()

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        """Keys of a WeakValueDictionary are plain; its values are matched where somebody holds them."""

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        values = graft.values(node[2])
        obj.data.clear()
        for key, value in zip(values[::2], values[1::2], strict=True):
            obj[key] = value


register(WeakDict)

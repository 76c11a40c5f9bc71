"""Python's own arrays of bytes and of numbers."""

from __future__ import annotations

import array
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import Kind, Node, register


class ByteArray(Kind):
    name = "bytearray"
    exact = (bytearray,)

    def capture(self, obj: bytearray, capture: Capture) -> Node:
        return [bytes(obj)]

    def make(self, node: Node, fresh: Any, graft: Graft) -> bytearray:
        return bytearray()

    def fill(self, node: Node, obj: bytearray, graft: Graft) -> None:
        obj[:] = node[1]


class NumberArray(Kind):
    """array.array."""

    name = "numbers"
    exact = (array.array,)

    def capture(self, obj: Any, capture: Capture) -> Node:
        return [obj.typecode, obj.tobytes()]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return type(fresh) is array.array and fresh.typecode == node[1]

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return array.array(node[1])

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        del obj[:]
        obj.frombytes(node[2])


register(ByteArray, NumberArray)

"""Integers that are addresses: ``id(parameter)`` in a list, in a set, or as the key of a dict.

After a resume the object has another address, and so must the integer. Which integer is one can be told: it is
the address of an object that the capture has met. Any other large integer stands for itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft, is_gone
from ckptd_agent.graph.kind import Kind, Node, register

NAME = "address"


class Address(Kind):
    """The address of an object of the program's."""

    name = NAME
    mutable = False

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return False

    def make(self, node: Node, fresh: Any, graft: Graft) -> int:
        obj = graft.value(node[1])
        if is_gone(obj):
            raise graft.refuse("the address of an object that has not been made again yet")
        return id(obj)


def link(capture: Capture) -> None:
    """Let the integers that are addresses follow their objects. To be called once all objects are known."""
    for number, value in capture.large.items():
        target = capture.numbers.get(value)
        if target is not None:
            capture.nodes[number] = [NAME, [target]]


def are_addresses(children: Iterable[Any], graft: Graft) -> bool:
    """All of a container's items are addresses: their order in a set is an accident."""
    return all(type(child) is list and graft.nodes[child[0]][0] == NAME for child in children)


register(Address)

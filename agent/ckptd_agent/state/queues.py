"""queue.Queue and its kin: their items are state, their locks are made anew.

A queue at which threads wait to put something is fed by code that can't be carried over: the dump is refused.
"""

from __future__ import annotations

import queue
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import Kind, Node, register


class Queue(Kind):
    name = "queue"
    exact = (queue.Queue, queue.LifoQueue, queue.PriorityQueue)

    def capture(self, obj: Any, capture: Capture) -> Node:
        if obj.not_full._waiters:
            capture.trouble("a thread waits to put something into a queue, and it can't be carried over")
        return [capture.child(type(obj)), obj.maxsize, capture.child(obj.queue), obj.unfinished_tasks]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return type(fresh) in self.exact and graft.is_class(node[1], type(fresh))

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        graft.pair(node[3], fresh.queue)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.the_class(node[1], queue.Queue)(node[2])

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        obj.maxsize, obj.queue, obj.unfinished_tasks = node[2], graft.value(node[3]), node[4]


class SimpleQueue(Kind):
    """Its items can't be seen: an empty one is as good as new."""

    name = "simple_queue"
    exact = (queue.SimpleQueue,)

    def capture(self, obj: Any, capture: Capture) -> Node:
        if not obj.empty():
            capture.trouble(
                "the items of a queue.SimpleQueue can't be carried over (use queue.Queue or a deque)"
            )
        return []

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return queue.SimpleQueue()

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        while not obj.empty():
            obj.get()


register(Queue, SimpleQueue)

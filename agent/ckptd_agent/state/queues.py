"""Where work of others waits: queues, futures, processes behind pipes, sockets. Items and results are state, locks
are made anew.

A queue at which threads wait to put something is fed by code that can't be carried over: the dump is refused. So
it is where a future's call is still running, a process has a say, or a socket holds what nobody has read yet.
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import os
import queue
import socket
import subprocess
import termios
from array import array
from contextlib import suppress
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import Kind, Node, register

WAIT = 0.2
"""Seconds for which a dump waits for a call that is under way."""
LONG_WAIT = 60
"""Seconds for which a resume does."""


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


class Future(Kind):
    """What a call that was handed to an executor has given. One that is under way is waited for, but not for long."""

    name = "future"
    exact = (concurrent.futures.Future,)

    def capture(self, obj: Any, capture: Capture) -> Node:
        if not capture.troubles:
            with suppress(concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
                obj.exception(WAIT)
        if not obj.done():
            capture.trouble(
                "a call that was handed to an executor is still running, and where it stands can't be carried over"
            )
            return ["", None, None]
        return [obj._state, capture.child(obj._result), capture.child(obj._exception)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        return super().fits(node, fresh, graft) and (
            fresh.running() or fresh.done()
        )  # else it is yet to be begun

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        graft.pair(node[2], fresh._result)

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return concurrent.futures.Future()

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        if obj.running() and concurrent.futures.wait([obj], LONG_WAIT).not_done:
            raise graft.refuse(
                "a call that was handed to an executor on the way to the checkpoint does not return"
            )
        obj._state, obj._result, obj._exception = node[1], graft.value(node[2]), graft.value(node[3])


class Process(Kind):
    """A command that was started: one that runs and is spoken with has a state of its own."""

    name = "process"
    exact = (subprocess.Popen,)

    def capture(self, obj: Any, capture: Capture) -> Node:
        piped = any(each is not None and not each.closed for each in (obj.stdin, obj.stdout, obj.stderr))
        if piped and _runs(obj):
            capture.trouble(
                f"the program's process {_command(obj)!r} (pid {obj.pid}) is running, and what it does can't be "
                "carried over"
            )
        return []

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.missing("subprocess.Popen")

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        """What the program has started is its own."""


def _runs(process: Any) -> bool:
    """Asked without reaping it, which is the program's to do."""
    if process.returncode is not None:
        return False
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _command(process: Any) -> str:
    args = process.args
    first = args if isinstance(args, str | bytes | os.PathLike) else next(iter(args), "")
    return os.path.basename(os.fsdecode(first)).split(" ")[0]


class Socket(Kind):
    """The program connects it again on its way; what lies in it would be lost."""

    name = "socket"
    exact = (socket.socket,)

    def capture(self, obj: Any, capture: Capture) -> Node:
        waiting = array("i", [0])
        with suppress(OSError):  # closed, or one that listens
            fcntl.ioctl(obj, termios.FIONREAD, waiting)
        if waiting[0] > 0:
            capture.trouble(
                f"a socket of the program's holds {waiting[0]} bytes that have not been read, and they can't be "
                "carried over"
            )
        return []

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        return graft.missing("socket.socket")

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        """The connection is the one that the program has made."""


register(Queue, SimpleQueue, Future, Process, Socket)

"""Threads of the program's: one that runs at the checkpoint has no dump (ckptd_agent.company), but one that has come
to its end has ended in the resume, too. The replay may have run it again, or not have come by its start.
"""

from __future__ import annotations

import threading
from typing import Any

from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.instances import instance_dict, python_class
from ckptd_agent.graph.kind import Kind, Node, register

CALL = {"_target", "_args", "_kwargs"}
"""Attributes that say what a thread does: it forgets them behind it."""
# By a name of its own: else it would be counted, and the program's next thread be called otherwise.
MACHINERY = {*vars(threading.Thread(name="ckptd"))} - CALL
"""Attributes of the threading module's: what they hold is the process's own."""
NEW, RUNS, ENDED = "new", "runs", "ended"
_SAID = {NEW: "had not been started", RUNS: "was running", ENDED: "had ended"}


class Thread(Kind):
    """threading.Thread and classes made of it: how far it is, and the attributes that it was given."""

    name = "thread"

    def takes(self, obj: Any) -> bool:
        if not isinstance(obj, threading.Thread):
            return False
        # The module's own others (the main thread, timers) are as the program makes them.
        return type(obj) is threading.Thread or type(obj).__module__ != "threading"

    def capture(self, obj: threading.Thread, capture: Capture) -> Node:
        stage = stage_of(obj)
        own = [(name, value) for name, value in instance_dict(obj).items() if name not in _others(stage)]
        return [capture.child(type(obj)), stage, obj.name, obj.daemon, capture.items(own)]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        if not self.takes(fresh) or not graft.is_class(node[1], type(fresh)):
            return False
        return bool(node[2] != RUNS or fresh.name == node[3])

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        own = instance_dict(fresh)
        for name, value in zip(node[5][::2], node[5][1::2], strict=True):
            if name in own:
                graft.pair(value, own[name])

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        cls = graft.the_class(node[1], threading.Thread)
        if node[2] == RUNS or not python_class(cls):
            return graft.missing(f"{cls.__module__}.{cls.__qualname__}")
        thread = object.__new__(cls)
        threading.Thread.__init__(thread, name=node[3], daemon=node[4])
        return thread

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        stage, found, others = node[2], stage_of(obj), _others(node[2])
        if [stage, found] == [ENDED, NEW] and not graft.lenient:
            end_unrun(obj)
        elif not graft.lenient and stage not in (RUNS, found):  # what runs is a library's
            raise graft.refuse(
                f"the thread {node[3]!r} {_SAID[stage]} at the checkpoint, but {_SAID[found]} in the resume"
            )
        values, own = graft.values(node[5]), instance_dict(obj)
        for name in [name for name in own if name not in others]:
            del own[name]
        own.update(zip(values[::2], values[1::2], strict=True))
        obj._name, obj._daemonic = node[3], node[4]


def _others(stage: str) -> set[str]:
    """Names of attributes that are not carried over."""
    return MACHINERY | CALL if stage == RUNS else MACHINERY


def stage_of(thread: threading.Thread) -> str:
    """How far a thread is."""
    if thread.ident is None:
        return NEW
    return RUNS if thread.is_alive() else ENDED


def end_unrun(thread: threading.Thread) -> None:
    """Let it have run, without what it would do."""
    own: Any = instance_dict(thread)
    own["run"] = _do_nothing
    threading.Thread.start(thread)
    threading.Thread.join(thread)
    del own["run"]


def _do_nothing() -> None:
    pass


register(Thread)

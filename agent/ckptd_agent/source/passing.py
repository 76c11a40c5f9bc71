"""Statements that a replay passes over once they were done in the iteration that it comes back to.

A replay runs what lies between two loops of the path again, on variables that are restored as they were at the
safe point. What takes something away (``q.get()``, ``stack.pop()``) could fail then, or wait for ever. A call of
a function of the program's own takes its time again, and behind a training loop that is skipped it could miss
variables. Both have done their work, and all that they changed is restored: they are left out.
"""

from __future__ import annotations

import ast

from ckptd_agent.source import branches, scan, table

TAKING = {
    "pop", "popleft", "popitem", "get", "get_nowait", "remove", "heappop", "heapreplace", "heappushpop", "next",
    "send", "clear", "task_done", "__next__",
}  # fmt: skip
"""Calls that take something away, so that they can't be made twice."""


def describe(statement: ast.stmt, loopy: set[str]) -> table.Passable | None:
    """What a replay must know to pass over a statement; None if it is always done. ``loopy``: the program's own
    functions that may lead to a loop."""
    if isinstance(statement, ast.Delete):
        taking = True
    else:
        calls = scan.calls_of(statement)
        taking = bool(calls & TAKING)
        if not taking and not (calls & loopy and scan.binds_names_only(statement)):
            return None
    span = branches.span_of([statement])
    return table.Passable(span, scan.names_bound(statement), only_data=not taking)

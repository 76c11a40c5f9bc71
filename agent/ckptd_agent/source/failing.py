"""Statements that may fail in a replay, which runs what lies between two loops on what is there.

A loop that trains is skipped, and what it gathered may not be there yet: ``print(losses[-1])`` behind it fails, and
so does ``model.load_state_dict(best)``. Nothing that such a statement does lives on: all is restored at the end, or the
resume is refused. So the replay goes on behind it. Whether a statement is worth a clause that catches this is told
here; in a run that is no replay, what it raises goes its way.
"""

from __future__ import annotations

import ast

from ckptd_agent.source import scan

ENDING = {"KeyboardInterrupt", "SystemExit", "GeneratorExit"}
"""What a replay never passes over: handlers for these alone don't matter."""


def may_fail(node: ast.AST) -> bool:
    """A simple statement that does more than to name something."""
    if not isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr | ast.Return | ast.Assert):
        return False
    return any(
        isinstance(each, ast.Call | ast.Subscript | ast.Attribute | ast.BinOp | ast.Assert)
        for each in scan.own_nodes(node)
    )


def calls(node: ast.AST) -> set[str]:
    """The last names of all that a simple statement calls."""
    return {scan.callee(each) for each in scan.own_nodes(node) if isinstance(each, ast.Call)}


def catches(node: ast.Try) -> bool:
    """The program itself handles what its statements may raise."""
    return any(not (isinstance(each.type, ast.Name) and each.type.id in ENDING) for each in node.handlers)

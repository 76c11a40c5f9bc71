"""If statements on the way to a safe point, as far as their outcome can be told from where that point is.

A replay runs the statements between two loops of the path again, on variables that are restored as they were
at the safe point. Their conditions may then read otherwise than in the first run: ``n += 1; if n > 3: break``
would leave a loop that the first run did not leave. But the safe point lies behind: a branch that holds it was
taken, and one that ends by leaving what holds it was not.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ckptd_agent.source import scan, table
from ckptd_agent.source.table import Span


def describe(node: ast.If, loopy: set[str], *, in_loop: bool) -> table.Branch | None:
    """What a replay must know of an if statement; None if it can't keep one from its way.

    ``in_loop``: the innermost loop around it is an instrumented one, so a break leaves the path.
    """
    body, orelse = span_of(node.body), span_of(node.orelse) if node.orelse else None
    leaves = (_leaves(node.body, in_loop), _leaves(node.orelse, in_loop))
    if not any(leaves) and not any(_may_hold_point(part, loopy) for part in (*node.body, *node.orelse)):
        return None
    return table.Branch((body, orelse), leaves)


def span_of(parts: Sequence[ast.expr | ast.stmt]) -> Span:
    """From the first to the last of some nodes."""
    first, last = parts[0], parts[-1]
    return (first.lineno, first.col_offset, last.end_lineno or 0, last.end_col_offset or 0)


def _leaves(statements: list[ast.stmt], in_loop: bool) -> bool:
    """The statements always end by leaving the loop's iteration or the function."""
    if not statements:
        return False
    last = statements[-1]
    if isinstance(last, ast.If):
        return _leaves(last.body, in_loop) and _leaves(last.orelse, in_loop)
    return isinstance(last, ast.Return) or (in_loop and isinstance(last, ast.Break | ast.Continue))


def _may_hold_point(statement: ast.stmt, loopy: set[str]) -> bool:
    return any(
        isinstance(node, ast.For | ast.While)
        or (isinstance(node, ast.Call) and (scan.callee(node) in loopy or not scan.is_plain(node)))
        for node in scan.own_nodes(statement)
    )


def outcome(branch: table.Branch, line: int, column: int | None) -> bool | None:
    """Which way an if statement went on the way to a place behind its test; None if that can't be told."""
    for span, taken in zip(branch.spans, (True, False), strict=True):
        if span is not None and holds(span, line, column):
            return taken
    if any(branch.leaves):
        return not branch.leaves[0]
    return None


def holds(span: Span, line: int, column: int | None) -> bool:
    """A place in the source lies within a span; columns are known from Python 3.11 on."""
    if column is None:
        return span[0] <= line <= span[2]
    return span[:2] <= (line, column) <= span[2:]

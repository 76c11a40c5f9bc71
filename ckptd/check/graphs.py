"""Tensors that a loop hands on from one iteration to the next with the graph that they hang on."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ckptd.check.names import last
from ckptd_agent.source import scan


def handed_on(loop: ast.For | ast.While) -> Iterator[tuple[ast.Assign, str]]:
    """Statements such as ``out, hidden = model(x, hidden)``, and the variable, unless something detaches it."""
    inside = [each for part in loop.body for each in scan.own_nodes(part)]
    for node in inside:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        target = node.targets[0]
        if not isinstance(target, ast.Tuple) or last(node.value.func) == "step":
            continue
        given = {_path(argument) for argument in node.value.args} - {""}
        for part in target.elts:
            name = _path(part)
            if name in given and not any(_renews(each, name) for each in inside if each is not node):
                yield node, name


def _renews(node: ast.AST, name: str) -> bool:
    """The node gives the variable a value without the graph, or may do so."""
    if isinstance(node, ast.Assign):
        return any(_path(target) == name for target in node.targets)
    if isinstance(node, ast.Call) and last(node.func) == "detach_" and isinstance(node.func, ast.Attribute):
        return _path(node.func.value) == name
    return False


def _path(node: ast.expr) -> str:
    """'self.hidden' for such an expression, '' for others."""
    if isinstance(node, ast.Name):
        return node.id
    above = _path(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{above}.{node.attr}" if above and isinstance(node, ast.Attribute) else ""

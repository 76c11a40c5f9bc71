"""The loops of a program: which are safe points, which train, and why the others are left alone."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from ckptd.check.modules import Module
from ckptd.check.training import Program
from ckptd_agent.source import table

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
LONGEST = 60
"""Letters of a loop's head that are shown."""


@dataclass(frozen=True)
class Loop:
    """One loop, as it is written."""

    path: str
    line: int
    head: str
    function: str
    """The function that it is in, '<module>' at module level."""
    trains: str
    """'' if it doesn't, 'directly', or the name of the function through which it does, probably."""
    safe_point: bool
    why: str
    """Why it is left alone, if it is."""


def list_loops(modules: list[Module], program: Program) -> list[Loop]:
    """All loops of a program; of comprehensions those that train."""
    followed = {loop.where for loop in table.LOOPS[1:]}
    found = []
    for module in modules:
        plain = any(name == "<module>" for _, name in module.source.bare)
        for function, node in _loops(module.tree, "<module>"):
            where = f"{module.source.path}:{node.lineno}"
            trains = program.loop_trains(node, module)
            if isinstance(node, Comprehension):
                if trains:
                    found.append(_loop(module, node, function, trains, "a comprehension"))
            elif isinstance(node, ast.AsyncFor):
                found.append(_loop(module, node, function, trains, "in a coroutine"))
            elif plain:
                found.append(
                    _loop(module, node, function, trains, "its module can't be rewritten: nested too deep")
                )
            else:
                why = "" if where in followed else module.source.left.get(node.lineno, "")
                found.append(_loop(module, node, function, trains, why))
    return found


def _loop(module: Module, node: ast.AST, function: str, trains: str, why: str) -> Loop:
    line = getattr(node, "lineno", 0)
    return Loop(module.path, line, _head(node), function, trains, not why, why)


def _head(node: ast.AST) -> str:
    if isinstance(node, ast.For | ast.AsyncFor):
        text = f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}"
    elif isinstance(node, ast.While):
        text = f"while {ast.unparse(node.test)}"
    else:
        text = ast.unparse(node)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _loops(
    node: ast.AST, function: str
) -> list[tuple[str, ast.For | ast.While | ast.AsyncFor | Comprehension]]:
    found: list[tuple[str, ast.For | ast.While | ast.AsyncFor | Comprehension]] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.For | ast.While | ast.AsyncFor | Comprehension):
            found.append((function, child))
        inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        found += _loops(child, inner)
    return found

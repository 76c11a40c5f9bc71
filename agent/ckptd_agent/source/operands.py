"""What waits on the value stack while a call runs.

A replay re-executes the statement that leads to the next frame of the path. Names that it reads
before the call are read from restored variables if the frame was grafted just before the statement;
results of other calls, evaluated earlier in the same statement and still on the stack, are computed
anew and may differ. So a stop below such a call is not exact, and is not taken as a safe point.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

from ckptd_agent.source import scan
from ckptd_agent.source.table import CLEAN, DIRTY, NAMES, Call, Source

HookNumber = Callable[[ast.stmt, Iterable[ast.Call]], int]


def list_calls(tree: ast.Module, source: Source, hook_number: HookNumber) -> None:
    """Fill ``source.calls``: each call of the module with what waits below it, by its last line."""
    for statement in ast.walk(tree):
        if not isinstance(statement, ast.stmt):
            continue
        walk = _Walk()
        walk.statement(statement)
        below_names = [call for call, below in walk.found if below == NAMES]
        hookable = not isinstance(statement, ast.While)
        number = hook_number(statement, below_names) if below_names and hookable else 0
        for call, below in walk.found:
            span = (call.lineno, call.col_offset, call.end_lineno or 0, call.end_col_offset or 0)
            source.calls.setdefault(span[2], []).append(
                Call(span, scan.callee(call), scan.may_repeat(call), below, number)
            )


class _Walk:
    """Visits the expressions of one statement in the order of their evaluation."""

    def __init__(self) -> None:
        self.found: list[tuple[ast.Call, int]] = []

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign():
                kind = self.expression(node.value, CLEAN)
                self.sequence(node.targets, kind)
            case ast.AugAssign():
                below = self.operand(node.target, CLEAN)
                self.expression(node.value, max(below, NAMES))
            case ast.AnnAssign():
                kind = self.expression(node.value, CLEAN) if node.value else CLEAN
                self.expression(node.target, kind)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.sequence([*node.decorator_list, *node.args.defaults], CLEAN)
            case ast.ClassDef():
                self.sequence([*node.decorator_list, *node.bases], DIRTY)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self.expression(item.context_expr, CLEAN)
            case ast.For() | ast.AsyncFor():
                self.expression(node.iter, CLEAN)
            case _:
                parts = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
                self.sequence(parts, CLEAN)

    def sequence(self, parts: Iterable[ast.expr | None], below: int) -> int:
        """Parts that are evaluated in turn and stay on the stack; what they leave there."""
        for part in parts:
            if part is not None:
                below = max(below, self.expression(part, below))
        return below

    def operand(self, node: ast.expr, below: int) -> int:
        """The target of an augmented assignment: read before the value is evaluated."""
        if isinstance(node, ast.Attribute | ast.Subscript):
            return self.sequence([c for c in ast.iter_child_nodes(node) if isinstance(c, ast.expr)], below)
        return below

    def expression(self, node: ast.expr, below: int) -> int:
        """Visit an expression; what its value is made of."""
        match node:
            case ast.Constant():
                return CLEAN
            case ast.Name():
                return NAMES
            case ast.Lambda():
                self.expression(node.body, CLEAN)
                return CLEAN
            case ast.Call():
                return self._call(node, below)
            case ast.BoolOp():
                return max(self.expression(value, below) for value in node.values)
            case ast.IfExp():
                self.expression(node.test, below)
                return max(self.expression(node.body, below), self.expression(node.orelse, below))
            case ast.NamedExpr():
                return self.expression(node.value, below)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node, below)
            case ast.Dict():
                pairs = [part for pair in zip(node.keys, node.values, strict=True) for part in pair]
                return self.sequence(pairs, below)
            case _:
                parts = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
                kind = self.sequence(parts, below)
                return max(kind, NAMES) if isinstance(node, ast.Attribute | ast.Subscript) else kind

    def _call(self, node: ast.Call, below: int) -> int:
        inner = below
        if isinstance(node.func, ast.Attribute):
            inner = max(inner, self.expression(node.func.value, below))
        elif not isinstance(node.func, ast.Name):
            inner = max(inner, self.expression(node.func, below))
        kind = self.sequence([*node.args, *(keyword.value for keyword in node.keywords)], inner)
        self.found.append((node, below))
        if scan.is_plain(node) and isinstance(node.func, ast.Name):
            return max(kind, NAMES)  # evaluated again, on the same restored values
        return DIRTY

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, below: int
    ) -> int:
        self.expression(node.generators[0].iter, below)
        inner: list[ast.expr] = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for number, generator in enumerate(node.generators):
            inner.extend(generator.ifs)
            if number:
                inner.append(generator.iter)
        for part in inner:
            self.expression(part, DIRTY)
        return DIRTY

"""What waits on the value stack while a call runs.

A replay re-executes the statement that leads to the next frame of the path. Names that it reads
before the call are read from restored variables if the frame was grafted just before the statement;
results of other calls, evaluated earlier in the same statement and still on the stack, are computed
anew and may differ. So a stop below such a call is not exact, and is not taken as a safe point. Nor is
one below a call that may change what was read before it (ckptd_agent.source.effects).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

from ckptd_agent.source import scan
from ckptd_agent.source.effects import INSIDE
from ckptd_agent.source.table import CLEAN, DIRTY, NAMES, Call, Source

HookNumber = Callable[[ast.stmt, Iterable[ast.Call]], int]
Reads = frozenset[str]
"""What a value was made from: '=name', '.attribute', INSIDE for an item of something, '~path.to' for something
computed from the object there, '!' for the result of a call."""
NOTHING: Reads = frozenset()
RESULT: Reads = frozenset("!")


def list_calls(tree: ast.Module, source: Source, hook_number: HookNumber) -> None:
    """Fill ``source.calls``: each call of the module with what waits below it, by its last line."""
    for statement in ast.walk(tree):
        if not isinstance(statement, ast.stmt):
            continue
        walk = _Walk()
        walk.statement(statement)
        below_names = [call for call, below in walk.found if below and "!" not in below]
        hookable = not isinstance(statement, ast.While)
        number = hook_number(statement, below_names) if below_names and hookable else 0
        for call, below in walk.found:
            span = (call.lineno, call.col_offset, call.end_lineno or 0, call.end_col_offset or 0)
            level = DIRTY if "!" in below else NAMES if below else CLEAN
            source.calls.setdefault(span[2], []).append(
                Call(span, scan.callee(call), scan.may_repeat(call), level, below, number)
            )


def _path(node: ast.expr) -> str:
    """'self.model.x' for such an expression, '' for others."""
    if isinstance(node, ast.Name):
        return node.id
    above = _path(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{above}.{node.attr}" if above and isinstance(node, ast.Attribute) else ""


def _contents(parts: Iterable[ast.expr | None]) -> Reads:
    """What is read when something is computed from the objects that these expressions give."""
    return frozenset(f"~{_path(part)}" for part in parts if part is not None and _path(part))


class _Walk:
    """Visits the expressions of one statement in the order of their evaluation."""

    def __init__(self) -> None:
        self.found: list[tuple[ast.Call, Reads]] = []

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign():
                kind = self.expression(node.value, NOTHING)
                self.sequence(node.targets, kind)
            case ast.AugAssign():
                below = self.operand(node.target)
                self.expression(node.value, below)
            case ast.AnnAssign():
                kind = self.expression(node.value, NOTHING) if node.value else NOTHING
                self.expression(node.target, kind)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.sequence([*node.decorator_list, *node.args.defaults], NOTHING)
            case ast.ClassDef():
                self.sequence([*node.decorator_list, *node.bases], RESULT)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self.expression(item.context_expr, NOTHING)
            case ast.For() | ast.AsyncFor():
                self.expression(node.iter, NOTHING)
            case _:
                parts = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
                self.sequence(parts, NOTHING)

    def sequence(self, parts: Iterable[ast.expr | None], below: Reads) -> Reads:
        """Parts that are evaluated in turn and stay on the stack; what they leave there."""
        for part in parts:
            if part is not None:
                below |= self.expression(part, below)
        return below

    def operand(self, node: ast.expr) -> Reads:
        """The target of an augmented assignment: read before the value is evaluated."""
        if isinstance(node, ast.Name):
            return frozenset([f"={node.id}"])
        parts = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        return self.sequence(parts, NOTHING) | {
            f".{node.attr}" if isinstance(node, ast.Attribute) else INSIDE
        }

    def expression(self, node: ast.expr, below: Reads) -> Reads:
        """Visit an expression; what its value is made of."""
        match node:
            case ast.Constant():
                return NOTHING
            case ast.Name():
                return frozenset([f"={node.id}"])
            case ast.Attribute():
                return self.expression(node.value, below) | {f".{node.attr}"}
            case ast.Lambda():
                self.expression(node.body, NOTHING)
                return NOTHING
            case ast.Call():
                return self._call(node, below)
            case ast.BoolOp():
                return self._chosen(node.values[0], node.values[1:], below)
            case ast.IfExp():
                return self._chosen(node.test, [node.body, node.orelse], below)
            case ast.NamedExpr():
                return self.expression(node.value, below)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node, below)
            case ast.Dict():
                pairs = [part for pair in zip(node.keys, node.values, strict=True) for part in pair]
                return self.sequence(pairs, below) - below
            case _:
                parts = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
                kind = self._in_turn(parts, below)
                if isinstance(node, ast.Tuple | ast.List | ast.Set):
                    return kind
                return kind | _contents(parts) | ({INSIDE} if isinstance(node, ast.Subscript) else NOTHING)

    def _in_turn(self, parts: list[ast.expr], below: Reads) -> Reads:
        """What parts that are evaluated in turn leave, each above those before it."""
        kind = NOTHING
        for part in parts:
            kind |= self.expression(part, below | kind)
        return kind

    def _chosen(self, test: ast.expr, others: list[ast.expr], below: Reads) -> Reads:
        """Expressions of which one or more are evaluated if a test says so, which must say so again."""
        kind = self.expression(test, below)
        for each in others:
            kind |= self.expression(each, below | kind | _contents([test]))
        return kind

    def _call(self, node: ast.Call, below: Reads) -> Reads:
        inner = below
        if isinstance(node.func, ast.Attribute):
            inner |= self.expression(node.func.value, below)
        elif not isinstance(node.func, ast.Name):
            inner |= self.expression(node.func, below)
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        kind = self._in_turn(arguments, inner)
        self.found.append((node, below))
        if scan.is_plain(node) and isinstance(node.func, ast.Name):
            return kind | _contents(arguments)  # evaluated again, on the same restored values
        return RESULT

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, below: Reads
    ) -> Reads:
        self.expression(node.generators[0].iter, below)
        inner: list[ast.expr] = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for number, generator in enumerate(node.generators):
            inner.extend(generator.ifs)
            if number:
                inner.append(generator.iter)
        for part in inner:
            self.expression(part, RESULT)
        return RESULT

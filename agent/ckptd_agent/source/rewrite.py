"""Rewriting of a module's syntax tree, so that the agent knows the active loops and their counts.

``for T in ITER: BODY`` becomes::

    if _ck_on and _ck_skip(7): pass            # only a replay ever gets here
    else:
        try:
            for T in _ck_for(7, ITER):         # compress(ITER, repeat(True)): C speed, counts by itself
                if _ck_on: _ck_body(7)         # a possible safe point
                BODY
            else: _ck_ex[0] = 14               # how the loop ended: 2 * id exhausted, 2 * id + 1 break
        finally: _ck_end(7)

``while C: BODY`` becomes the same over ``_ck_while(7)`` with ``if not C: break`` at its head. No name is
added to the user's scopes: all injected names live in builtins, and none begins with two underscores,
which class bodies would mangle. Nothing but loops and the returns, breaks and calls in them is touched,
and every node keeps its place in the source, so that tracebacks read as without us.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from ckptd_agent.source import branches, failing, passing, scan, table
from ckptd_agent.source.operands import list_calls
from ckptd_agent.source.summary import Summary

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def rewrite(tree: ast.Module, source: table.Source, known: Summary) -> ast.Module:
    """Instrument a module in place; ``known`` is what its functions, and those that it leads to, may do."""
    source.effects = known.effects
    rewriter = _Rewriter(source, known.loopy)
    list_calls(tree, source, rewriter.hook_number)
    rewriter.generic_visit(tree)
    return ast.fix_missing_locations(tree)


class _Scope:
    """A function or the module while it is rewritten."""

    def __init__(self, name: str, *, left: str = "", function: bool) -> None:
        self.name = name
        self.left = left
        """Why its loops are left as they are, or ''."""
        self.instrumented = not left
        self.function = function
        self.loops: list[int] = []
        """Ids of the instrumented loops around the current statement, outermost first; 0 for a plain one."""
        self.behind = False
        """A loop, or a call that may lead to one, has been come by."""


class _Rewriter(ast.NodeTransformer):
    def __init__(self, source: table.Source, loopy: set[str]) -> None:
        self.source = source
        self.loopy = loopy
        self.scopes = [_Scope("<module>", function=False)]
        self.classes: list[set[str]] = []
        self.count = 0
        self.hooks: dict[int, int] = {}

    # ---- replay hooks before statements whose operands wait below a call --------------------------

    def hook_number(self, statement: ast.stmt, calls: Iterable[ast.Call]) -> int:
        """Number of the hook that a statement gets, or 0 if no call in it can reach a loop."""
        if not any(scan.callee(call) in self.loopy for call in calls):
            return 0
        return self.hooks.setdefault(id(statement), len(self.hooks) + 1)

    def visit(self, node: ast.AST) -> Any:
        passable = self._passable(node)
        fallible = self._is_fallible(node)
        result = super().visit(node)
        if passable is not None:
            result = _passed(passable, result)
        if fallible:
            result = _tolerated(result, node)
        if isinstance(node, ast.For | ast.While):
            self.scopes[-1].behind = True
        number = self.hooks.get(id(node), 0)
        if not number or not isinstance(node, ast.stmt):
            return result
        hook = ast.parse(f"if _ck_on: _ck_statement({self.source.name!r}, {number})").body[0]
        after = result if isinstance(result, list) else [result]
        return [_placed(hook, node), *after]

    def _passable(self, node: ast.AST) -> table.Passable | None:
        """The place of a checkpoint may lie behind the statement in a loop, or in what a loop calls."""
        scope = self.scopes[-1]
        if isinstance(node, ast.stmt) and (any(scope.loops) or (scope.function and scope.instrumented)):
            return passing.describe(node, self.loopy)
        return None

    def _is_fallible(self, node: ast.AST) -> bool:
        """It stands behind a loop that a replay may skip: see ckptd_agent.source.failing."""
        scope = self.scopes[-1]
        if not scope.instrumented or len(scope.loops) > 4 or not failing.may_fail(node):
            return False
        scope.behind = scope.behind or bool(failing.calls(node) & self.loopy)
        return scope.behind

    # ---- scopes -----------------------------------------------------------------------------------

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.classes.append(scan.reached_from_forward(node))
        self.scopes.append(_Scope(node.name, left="in the body of a class", function=False))
        self.generic_visit(node)
        self.scopes.pop()
        self.classes.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return self._function(node)

    def _function(self, node: Function) -> ast.AST:
        traced = bool(self.classes) and getattr(node, "name", "") in self.classes[-1]
        left = "in what forward calls" if traced else ""
        left = scan.why_left(node) or left
        if left and not isinstance(node, ast.Lambda):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            self.source.bare.add((first, node.name))
        outer, self.classes = self.classes, []
        name = getattr(node, "name", "<lambda>")
        self.scopes.append(_Scope(name, left=left, function=True))
        self.generic_visit(node)
        self.scopes.pop()
        self.classes = outer
        return node

    # ---- loops ------------------------------------------------------------------------------------

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        loop = self._open(node)
        if not loop:
            return self._plain(node)
        node.iter = self.visit(node.iter)
        orelse = self._block(node.orelse)
        body = self._body(loop, node.body)
        new = ast.For(
            target=node.target,
            iter=_call("_ck_for" + self._nesting(), loop, node.iter),
            body=[_statement(f"if _ck_on: _ck_body({loop})", node.body[0]), *body],
            orelse=[_statement(_exhausted(loop, orelse), node)],
        )
        return self._close(loop, node, new, orelse)

    def visit_While(self, node: ast.While) -> ast.AST | list[ast.stmt]:
        loop = self._open(node)
        if not loop:
            return self._plain(node)
        orelse = self._block(node.orelse)
        scope = self.scopes[-1]
        scope.loops.append(loop)
        test = self.visit(node.test)
        scope.loops.pop()
        body = self._body(loop, node.body)
        head: list[ast.stmt] = []
        if not (isinstance(test, ast.Constant) and test.value):
            mark = _exhausted(loop, orelse)
            check = ast.parse(f"if not ((_ck_on and _ck_inside({loop})) or 0): {mark}; break").body[0]
            assert isinstance(check, ast.If)
            assert isinstance(check.test, ast.UnaryOp)
            assert isinstance(check.test.operand, ast.BoolOp)
            for each in [check, *check.body]:
                _placed(each, node.test)
            check.test.operand.values[-1] = test
            head.append(check)
        new = ast.For(
            target=_expression("_ck_x[0]", node.test, ast.Store()),
            iter=_call("_ck_while" + self._nesting(), loop, None),
            body=[*head, _statement(f"if _ck_on: _ck_body({loop})", node.body[0]), *body],
            orelse=[],
        )
        return self._close(loop, node, new, orelse)

    def visit_Break(self, node: ast.Break) -> ast.AST | list[ast.stmt]:
        loops = self.scopes[-1].loops
        if not loops or not loops[-1]:
            return node
        return [_statement(f"_ck_ex[0] = {2 * loops[-1] + 1}", node), node]

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        depth = sum(1 for loop in self.scopes[-1].loops if loop)
        if depth:
            value = node.value or ast.Constant(None)
            call = _expression(f"_ck_return({depth}, 0)", node)
            assert isinstance(call, ast.Call)
            call.args[1] = value
            node.value = call
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        """``if C`` becomes ``if C if not _ck_on or _ck_open(3) else _ck_way()``: see branches."""
        scope = self.scopes[-1]
        found = None
        if scope.instrumented:
            in_loop = bool(scope.loops and scope.loops[-1])
            found = branches.describe(node, self.loopy, in_loop=in_loop)
        test = self.visit(node.test)
        node.body = self._block(node.body)
        node.orelse = self._block(node.orelse)
        if found is None:
            node.test = test
            return node
        table.BRANCHES.append(found)
        choice = _expression(
            f"0 if not _ck_on or _ck_open({len(table.BRANCHES) - 1}) else _ck_way()", node.test
        )
        assert isinstance(choice, ast.IfExp)
        choice.body = test
        node.test = choice
        return node

    def visit_Try(self, node: ast.Try) -> ast.AST:
        if node.finalbody:
            self.source.finals.append((node.finalbody[0].lineno, node.finalbody[-1].end_lineno or 0))
        if failing.catches(node):
            self.source.tries.append((node.body[0].lineno, node.body[-1].end_lineno or 0))
        return self.generic_visit(node)

    visit_TryStar: Any = visit_Try  # noqa: N815 - as ast.NodeVisitor wants it

    # ---- parts ------------------------------------------------------------------------------------

    def _open(self, node: ast.For | ast.While) -> int:
        """The loop's id, or 0 where it is left as it is."""
        scope = self.scopes[-1]
        left = scope.left
        if not left and not scan.may_hold_events(node, self.loopy):
            left = "calls nothing but builtins"
        if not left and len(scope.loops) >= 8:  # CPython allows 20 nested blocks; ours take two each
            left = "nested too deep"
        if left:
            self.source.left[node.lineno] = left
            return 0
        self.count += 1
        where = f"{self.source.path}:{node.lineno}"
        return table.add_loop(
            (self.source.name, self.count),
            where,
            nested=any(scope.loops),
            function=scope.name,
            active=branches.span_of([*([node.test] if isinstance(node, ast.While) else []), *node.body]),
            test=(branches.span_of([node.test]),) if isinstance(node, ast.While) else (),
            shape=_shape(node.target) if isinstance(node, ast.For) else None,
        )

    def _nesting(self) -> str:
        """What the openers of loops inside other ones are called by more."""
        return "_in" if any(self.scopes[-1].loops) else ""

    def _plain(self, node: ast.For | ast.While) -> ast.AST:
        scope = self.scopes[-1]
        for name, value in ast.iter_fields(node):
            if name == "body":
                scope.loops.append(0)
                node.body = self._block(node.body)
                scope.loops.pop()
            elif name == "orelse":
                node.orelse = self._block(node.orelse)
            elif isinstance(value, ast.expr):
                setattr(node, name, self.visit(value))
        return node

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for statement in statements:
            new = self.visit(statement)
            result.extend(new if isinstance(new, list) else [new])
        return result

    def _body(self, loop: int, statements: list[ast.stmt]) -> list[ast.stmt]:
        scope = self.scopes[-1]
        scope.loops.append(loop)
        body = self._block(statements)
        scope.loops.pop()
        return body

    def _close(
        self, loop: int, old: ast.For | ast.While, new: ast.For, orelse: list[ast.stmt]
    ) -> list[ast.stmt]:
        ast.copy_location(new, old)
        block = ast.Try(body=[new], handlers=[], orelse=[], finalbody=[_statement(f"_ck_end({loop})", old)])
        skip = _statement(f"if _ck_on and _ck_skip({loop}): pass", old)
        assert isinstance(skip, ast.If)
        if self.scopes[-1].function:
            depth = sum(1 for each in self.scopes[-1].loops if each)
            skip.body = [_statement(f"if _ck_ended(): return _ck_value({depth})", old)]
        skip.orelse = [ast.copy_location(block, old)]
        result: list[ast.stmt] = [skip]
        if orelse:
            after = _statement(f"if _ck_exhausted({loop}): pass", old)
            assert isinstance(after, ast.If)
            after.body = orelse
            result.append(after)
        return result


def _passed(passable: table.Passable, node: ast.stmt) -> ast.stmt:
    """``S`` becomes ``if not _ck_on or not _ck_past(5): S``."""
    table.PASSABLES.append(passable)
    choice = _statement(f"if not _ck_on or not _ck_past({len(table.PASSABLES) - 1}): pass", node)
    assert isinstance(choice, ast.If)
    choice.body = [node]
    return choice


def _tolerated(result: Any, node: ast.AST) -> ast.stmt:
    """``S`` becomes ``try: S`` with a handler that passes on what it raises, unless a replay goes on behind it."""
    assert isinstance(node, ast.stmt)
    block = _statement("try: pass\nexcept Exception:\n if not _ck_on or not _ck_failed(): raise", node)
    assert isinstance(block, ast.Try)
    block.body = result if isinstance(result, list) else [result]
    if isinstance(node, ast.Return):
        block.handlers[0].body.append(ast.copy_location(ast.Return(), node))
    return block


def _shape(target: ast.expr) -> table.Shape:
    if isinstance(target, ast.Starred):
        return ()
    if isinstance(target, ast.Tuple | ast.List):
        return tuple(_shape(each) for each in target.elts)
    return None


def _exhausted(loop: int, orelse: list[ast.stmt]) -> str:
    """The statement that notes that a loop ran to its end."""
    return f"_ck_else({loop})" if orelse else f"_ck_ex[0] = {2 * loop}"


def _placed(node: ast.AST, like: ast.AST) -> ast.AST:
    """Give a node, and all below it, the place of another one in the source."""
    for each in ast.walk(node):
        ast.copy_location(each, like)
    return node


def _statement(text: str, like: ast.AST) -> ast.stmt:
    node = _placed(ast.parse(text).body[0], like)
    assert isinstance(node, ast.stmt)
    return node


def _expression(text: str, like: ast.AST, context: ast.expr_context | None = None) -> ast.expr:
    node = _placed(ast.parse(text, mode="eval").body, like)
    assert isinstance(node, ast.expr)
    if context is not None:
        node.ctx = context  # type: ignore[attr-defined]
    return node


def _call(name: str, loop: int, argument: ast.expr | None) -> ast.Call:
    arguments: list[ast.expr] = [ast.Constant(loop)]
    if argument is not None:
        arguments.append(argument)
    call = ast.Call(func=ast.Name(name, ast.Load()), args=arguments, keywords=[])
    if argument is not None:
        for each in (call, call.func, arguments[0]):
            ast.copy_location(each, argument)
    return call

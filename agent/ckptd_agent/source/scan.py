"""Questions about a syntax tree: what to instrument, and what a call can reach."""

from __future__ import annotations

import ast
import builtins

TRACED = {"forward", "__getitem__", "__getitems__", "__len__", "__call__", "__iter__", "__next__", "__del__"}
"""Functions that are called once a sample, traced by torch.compile, or called when all is over: left as they are."""
PURE = frozenset(
    name
    for name in dir(builtins)
    if not name.startswith("_")
    and name not in {"exec", "eval", "__import__", "input", "map", "filter", "next"}
)
"""Builtins that run no function of the user's that could hold a loop."""
PLAIN_METHODS = frozenset(
    name
    for kind in (list, dict, set, str, bytes, tuple, int, float, frozenset)
    for name in dir(kind)
    if name[0] != "_"
) | {"appendleft", "popleft", "write", "writelines", "flush", "tolist", "item"}
"""Methods of builtin containers; a method of the user's with such a name is not seen as one."""
REPEATERS = {"reduce", "sub", "subn", "nlargest", "nsmallest", "apply_", "map_"}
"""Functions of C modules that call a function for each of their items."""

TAKING = {
    "pop", "popleft", "popitem", "get", "get_nowait", "remove", "heappop", "heapreplace", "heappushpop", "next",
    "send", "clear", "task_done", "__next__",
}  # fmt: skip
"""Calls that take something away, so that they can't be made twice."""


def calls_of(statement: ast.stmt) -> set[str]:
    """What a simple statement calls, by last names; empty if it binds anything but variables."""
    if not isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr):
        return set()
    return {callee(node) for node in own_nodes(statement) if isinstance(node, ast.Call)}


def binds_names_only(statement: ast.stmt) -> bool:
    """What it binds is seen in the function's variables."""
    return not any(
        isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load)
        for node in own_nodes(statement)
    )


def names_bound(statement: ast.stmt) -> frozenset[str]:
    """The variables that a statement binds or deletes."""
    return frozenset(
        node.id
        for node in own_nodes(statement)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    )


def callee(call: ast.Call) -> str:
    """Last component of the name that is called, or ''."""
    if isinstance(call.func, ast.Name):
        return call.func.id
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return ""


def may_repeat(call: ast.Call) -> bool:
    """The call is of something written in C that may call a function of the user's several times in its turn."""
    if isinstance(call.func, ast.Name) and hasattr(builtins, call.func.id):
        return True
    return is_plain(call) or callee(call) in REPEATERS


def is_plain(call: ast.Call) -> bool:
    """The call is to a builtin or to a method of a builtin container."""
    if isinstance(call.func, ast.Name):
        return call.func.id in PURE
    return isinstance(call.func, ast.Attribute) and call.func.attr in PLAIN_METHODS


def may_hold_events(loop: ast.For | ast.While, loopy: set[str]) -> bool:
    """A loop whose calls are all to builtins can't hold a training event; nor another loop of the user's, if no
    method with a builtin one's name leads to one (``loopy``)."""
    parts: list[ast.AST] = [*loop.body]
    if isinstance(loop, ast.While):
        parts.append(loop.test)
    else:
        parts.append(loop.iter)
    return any(
        isinstance(node, ast.Call) and (not is_plain(node) or callee(node) in loopy)
        for part in parts
        for node in own_nodes(part)
    )


def own_nodes(root: ast.AST) -> list[ast.AST]:
    """All nodes below (and with) root, without those of functions and classes defined there."""
    found: list[ast.AST] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        found.append(node)
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef)
            and node is not root
        ):
            continue
        waiting.extend(ast.iter_child_nodes(node))
    return found


def why_left(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> str:
    """Why a function's loops are left as they are, '' if they aren't.

    Plain functions only are instrumented: generators and coroutines interleave, traced ones are torch.compile's.
    """
    if isinstance(node, ast.Lambda):
        return ""
    if isinstance(node, ast.AsyncFunctionDef):
        return "in a coroutine"
    if node.name in TRACED:
        return f"in a method called {node.name}"
    if any(_names_compiler(decorator) for decorator in node.decorator_list):
        return "in a function that is compiled"
    if any(isinstance(each, ast.Yield | ast.YieldFrom) for each in own_nodes(node)):
        return "in a generator"
    return ""


def _names_compiler(decorator: ast.expr) -> bool:
    text = ast.unparse(decorator)
    return "compile" in text or "jit" in text or "script" in text


def reached_from_forward(node: ast.ClassDef) -> set[str]:
    """Names of methods that ``forward`` calls on self, and what these call: torch.compile traces them."""
    methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
    reached: set[str] = set()
    waiting: list[str] = ["forward", "__call__"]
    while waiting:
        name = waiting.pop()
        if name not in reached and name in methods:
            reached.add(name)
            waiting.extend(
                each.attr
                for each in ast.walk(methods[name])
                if isinstance(each, ast.Attribute)
                and isinstance(each.value, ast.Name)
                and each.value.id == "self"
            )
    return reached

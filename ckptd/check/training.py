"""Which functions and loops train: by themselves, or through functions of the program's that they call.

By names, as a reader would: a method is looked up in the class that its object was made from, if that can be
told, else in all classes of the program.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ckptd.check.modules import Module
from ckptd.check.names import Names, last
from ckptd_agent.source import scan

Function = ast.FunctionDef | ast.AsyncFunctionDef
BACKWARD = frozenset({"backward", "manual_backward"})


@dataclass(eq=False)
class Known:
    """One function of the program's."""

    name: str
    cls: str
    """The class that it is a method of, or ''."""
    node: Function
    names: Names
    trains: str = ""
    """'' if it doesn't, 'directly', or the name of the function through which it does."""


@dataclass
class Program:
    """All functions of all modules."""

    functions: dict[str, list[Known]] = field(default_factory=dict)
    bases: dict[str, list[str]] = field(default_factory=dict)
    """Of a class, by its name: last components of its bases."""
    names: dict[str, Names] = field(default_factory=dict)
    """By path of the module."""

    def loop_trains(self, loop: ast.AST, module: Module) -> str:
        """'' if a loop (or comprehension) doesn't train, 'directly', or the function through which it does."""
        return self._trains(_inside(loop), self.names[module.path], "")

    def _trains(self, nodes: Iterable[ast.AST], names: Names, cls: str) -> str:
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        if any(is_event(call, names) for call in calls):
            return "directly"
        for call in calls:
            for known in self._called(call, names, cls):
                if known.trains:
                    return known.name
        return ""

    def _called(self, call: ast.Call, names: Names, cls: str) -> Iterator[Known]:
        """Functions of the program's that a call may lead to: the one called, and those handed over."""
        yield from self._named(call.func, names, cls)
        for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
            if isinstance(argument, ast.Name | ast.Attribute):
                yield from self._named(argument, names, cls)

    def _named(self, node: ast.expr, names: Names, cls: str) -> Iterator[Known]:
        if isinstance(node, ast.Name):
            real = names.imports.get(node.id, node.id).rpartition(".")[2]
            for known in self.functions.get(real, ()):
                if not known.cls:
                    yield known
            for known in self.functions.get("__init__", ()) if real in self.bases else ():
                if known.cls in self._family(real):
                    yield known
        elif isinstance(node, ast.Attribute):
            made = names.maker(node.value).rpartition(".")[2]
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if made in self.bases:
                yield from (k for k in self.functions.get(node.attr, ()) if k.cls in self._family(made))
            elif own or node.attr not in scan.PLAIN_METHODS:
                yield from self.functions.get(node.attr, ())

    def _family(self, name: str) -> set[str]:
        """A class, what it is derived from, and what is derived from it."""
        above: set[str] = set()
        waiting = [name]
        while waiting:
            each = waiting.pop()
            if each not in above:
                above.add(each)
                waiting += self.bases.get(each, [])
        return above | {each for each, bases in self.bases.items() if name in bases}

    def settle(self) -> None:
        """Find out of all functions whether they train."""
        everyone = [known for each in self.functions.values() for known in each]
        for known in everyone:
            if any(is_event(each, known.names) for each in _inside(known.node) if isinstance(each, ast.Call)):
                known.trains = "directly"
        changed = True
        while changed:
            changed = False
            for known in everyone:
                if not known.trains:
                    known.trains = self._trains(_inside(known.node), known.names, known.cls)
                    changed = changed or bool(known.trains)


def read(modules: list[Module]) -> Program:
    """All functions of a program, and which of them train."""
    program = Program()
    for module in modules:
        names = program.names[module.path] = Names(module.tree)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                program.bases[node.name] = [last(base) for base in node.bases]
        for cls, function in _functions(module.tree, ""):
            program.functions.setdefault(function.name, []).append(Known(function.name, cls, function, names))
    program.settle()
    return program


def is_event(call: ast.Call, names: Names) -> bool:
    """The call is a backward pass or an optimizer's step, as far as its name can tell."""
    name = last(call.func)
    if name in BACKWARD and isinstance(call.func, ast.Attribute):
        return True
    if name == "grad":
        return names.dotted(call.func) == "torch.autograd.grad"
    if name != "step" or not isinstance(call.func, ast.Attribute):
        return False
    holder = ast.unparse(call.func.value).lower()
    made = names.maker(call.func.value)
    return "sched" not in holder and (
        "opt" in holder
        or "scaler" in holder
        or (made.startswith("torch.optim.") and "lr_scheduler" not in made)
    )


def _functions(node: ast.AST, cls: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield cls, child
            yield from _functions(child, "")
        else:
            yield from _functions(child, child.name if isinstance(child, ast.ClassDef) else cls)


def _inside(root: ast.AST) -> list[ast.AST]:
    """What runs when a function is called, or a loop goes round."""
    if isinstance(root, ast.For | ast.While | ast.AsyncFor):
        parts: list[ast.AST] = [*root.body, *([root.test] if isinstance(root, ast.While) else [root.iter])]
    elif isinstance(root, Function):
        parts = [*root.body]
    else:
        return scan.own_nodes(root)
    return [each for part in parts for each in scan.own_nodes(part)]

"""What the functions of some modules may do, by their names: reach a loop, change values.

All of this is on the safe side: two functions of one name count as one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ckptd_agent.source import scan
from ckptd_agent.source.effects import Effects, effects_of

Calls = dict[str, tuple[bool, frozenset[str]]]
"""By name of a function, method or class: whether it holds a loop, and the names of what it calls."""


@dataclass(frozen=True)
class Summary:
    """One or more modules."""

    calls: Calls
    effects: Effects

    @cached_property
    def loopy(self) -> set[str]:
        """Names through which a call may reach a loop."""
        callers: dict[str, list[str]] = {}
        for name, (_, callees) in self.calls.items():
            for callee in callees:
                callers.setdefault(callee, []).append(name)
        found: set[str] = set()
        waiting = [name for name, (holds, _) in self.calls.items() if holds]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(callers.get(name, ()))
        return found


def summarize(tree: ast.Module) -> Summary:
    """The summary of one module."""
    return Summary(_calls_of(tree), effects_of([tree]))


def merge(summaries: Iterable[Summary]) -> Summary:
    """One summary of several."""
    calls: Calls = {}
    effects: Effects = {}
    for each in summaries:
        for name, (holds, callees) in each.calls.items():
            old = calls.get(name, (False, frozenset()))
            calls[name] = (holds or old[0], old[1] | callees)
        for name, (mentions, changes) in each.effects.items():
            before = effects.get(name, (frozenset(), frozenset()))
            effects[name] = (before[0] | mentions, before[1] | changes)
    return Summary(calls, effects)


def _calls_of(tree: ast.Module) -> Calls:
    bodies: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            bodies.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.ClassDef):
            bodies.setdefault(node.name, []).extend(m for m in node.body if isinstance(m, ast.FunctionDef))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    bodies.setdefault(target.id, []).append(node.value)
    return {name: _calls_in(nodes) for name, nodes in bodies.items()}


def _calls_in(nodes: list[ast.AST]) -> tuple[bool, frozenset[str]]:
    holds = False
    callees = set()
    for each in (each for node in nodes for each in ast.walk(node)):
        if isinstance(each, ast.For | ast.While):
            holds = True
        elif isinstance(each, ast.Call):
            callees.add(scan.callee(each))
    return holds, frozenset(callees)

"""What of a program will be refused or is not exact, and on which line: by rules over calls and classes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from ckptd.check import graphs
from ckptd.check.modules import Module
from ckptd.check.names import Names, last
from ckptd.check.rules import (
    CALLS,
    CLOCK,
    CLOCKS,
    METHODS,
    NOTE,
    PERHAPS,
    PROCESSES,
    REFUSED,
    THREADS,
)
from ckptd.check.training import Program


@dataclass(frozen=True)
class Finding:
    """One thing that a reader should know before the program runs."""

    level: str
    """REFUSED, PERHAPS or NOTE."""
    path: str
    line: int
    what: str
    """The thing on that line, as it is written."""
    why: str


def find_all(modules: list[Module], program: Program) -> list[Finding]:
    """All findings, in the order of modules and lines; of notes the first of a kind."""
    found: dict[tuple[str, int, str], Finding] = {}
    noted: set[str] = set()
    for module in modules:
        each = _Rules(module, program)
        for finding in sorted(each.all(), key=lambda finding: finding.line):
            if finding.level == NOTE and finding.what in noted:
                continue
            noted.add(finding.what)
            found.setdefault((finding.path, finding.line, finding.what), finding)
    return list(found.values())


class _Rules:
    """The rules over one module."""

    def __init__(self, module: Module, program: Program) -> None:
        self.module = module
        self.program = program
        self.names: Names = program.names[module.path]
        joins = [
            (last(node.func.value), node)
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "join"
        ]
        self.joined = {name for name, _ in joins}
        self.waits = any(not node.args for _, node in joins)  # a string's join has one
        self.spawns = any(
            isinstance(node, ast.Call)
            and last(node.func) == "set_start_method"
            and any(
                isinstance(each, ast.Constant) and each.value in ("spawn", "forkserver") for each in node.args
            )
            for node in ast.walk(module.tree)
        )

    def all(self) -> Iterator[Finding]:
        """Every rule on every node."""
        for node in ast.walk(self.module.tree):
            if isinstance(node, ast.Call):
                yield from self._call(node)
            elif isinstance(node, ast.ClassDef):
                yield from self._class(node)
            elif isinstance(node, ast.If | ast.While | ast.IfExp):
                yield from self._condition(node.test)
            if isinstance(node, ast.For | ast.While):
                yield from self._loop(node)

    def _finding(self, level: str, node: ast.AST, what: str, why: str) -> Finding:
        return Finding(level, self.module.path, getattr(node, "lineno", 0), what, why)

    def _call(self, node: ast.Call) -> Iterator[Finding]:
        name = self.names.dotted(node.func)
        if name in CALLS:
            level, why = CALLS[name]
            yield self._finding(level, node, name, why)
        elif name in THREADS or name in PROCESSES:
            yield from self._started(node, name)
        elif last(node.func) in METHODS and isinstance(node.func, ast.Attribute):
            level, why = METHODS[last(node.func)]
            yield self._finding(level, node, f".{last(node.func)}()", why)
        elif last(node.func) == "backward" and _flag(node, "retain_graph"):
            yield self._finding(
                PERHAPS, node, "backward(retain_graph=True)", "a graph that is kept into the next iteration is not "
                "carried over: a dump waits for a place where there is none"
            )  # fmt: skip
        elif name == "torch.utils.data.DataLoader":
            yield from self._loader(node)

    def _started(self, node: ast.Call, name: str) -> Iterator[Finding]:
        target = next((each.value for each in node.keywords if each.arg in ("target", "function")), None)
        if target is None or (
            last(target) not in self.program.functions and not isinstance(target, ast.Lambda)
        ):
            return
        kind = "thread" if name in THREADS else "process"
        level = PERHAPS if self._is_joined(self.names.dotted(node.func)) else REFUSED
        yield self._finding(
            level, node, f"{name}(target={ast.unparse(target)})",
            f"a dump is refused while this {kind} runs: what it does can't be carried over",
        )  # fmt: skip

    def _is_joined(self, made: str) -> bool:
        """What is made by calls of ``made`` is waited for somewhere; of a list's elements, whatever is."""
        holders = {name for name, found in self.names.made.items() if found == made}
        return bool(self.joined & holders) if holders else self.waits

    def _loader(self, node: ast.Call) -> Iterator[Finding]:
        workers = next((each.value for each in node.keywords if each.arg == "num_workers"), None)
        context = next((each.value for each in node.keywords if each.arg == "multiprocessing_context"), None)
        spawned = isinstance(context, ast.Constant) and context.value in ("spawn", "forkserver")
        idle = workers is None or (isinstance(workers, ast.Constant) and workers.value == 0)
        if not idle and (spawned or self.spawns):
            yield self._finding(
                REFUSED, node, "DataLoader with workers that are not forked",
                "can't be followed, so a dump is refused: use num_workers=0 or fork",
            )  # fmt: skip

    def _class(self, node: ast.ClassDef) -> Iterator[Finding]:
        bases = {self.names.dotted(base) for base in node.bases}
        if bases & THREADS and any(
            isinstance(each, ast.FunctionDef) and each.name == "run" for each in node.body
        ):
            level = PERHAPS if self._is_joined(node.name) else REFUSED
            yield self._finding(
                level, node, f"class {node.name}, a thread",
                "a dump is refused while one runs: what it does can't be carried over",
            )  # fmt: skip

    def _condition(self, test: ast.expr) -> Iterator[Finding]:
        for each in ast.walk(test):
            if isinstance(each, ast.Call) and self.names.dotted(each.func) in CLOCKS:
                yield self._finding(CLOCK[0], each, f"{self.names.dotted(each.func)}()", CLOCK[1])

    def _loop(self, loop: ast.For | ast.While) -> Iterator[Finding]:
        if self.program.loop_trains(loop, self.module):
            for node, name in graphs.handed_on(loop):
                yield self._finding(
                    PERHAPS, node, f"{name} goes from one iteration to the next",
                    "if it is a tensor with a graph, that is not carried over: a dump waits for a place where there is "
                    "none (detach it)",
                )  # fmt: skip


def _flag(call: ast.Call, name: str) -> bool:
    return any(
        each.arg == name and isinstance(each.value, ast.Constant) and each.value.value is True
        for each in call.keywords
    )

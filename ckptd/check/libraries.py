"""Training loops that live in libraries: a trainer that the program calls."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ckptd.check.findings import Finding
from ckptd.check.modules import Module
from ckptd.check.rules import REFUSED
from ckptd.check.training import Program
from ckptd_agent.source import finder, packages

NEVER = frozenset({"torch", "numpy", "torchvision", "torchaudio", "scipy", "sklearn", "matplotlib", "ckptd"})
LONGEST = 4 << 20
"""Bytes of a source file that are looked at."""
_BACKWARD = re.compile(rb"\.backward\(|autograd\.grad\(")
_DEF = re.compile(rb"^[ \t]*def ([A-Za-z_]\w*)\(", re.MULTILINE)
_TRAINERS = {"fit", "train", "learn", "finetune", "fine_tune", "run", "launch", "tune", "fit_one_cycle"}


def find_trainers(modules: list[Module], program: Program) -> Iterator[Finding]:
    """Calls of methods such as ``fit`` of objects that were made from a library which trains."""
    for module in modules:
        names = program.names[module.path]
        for node in ast.walk(module.tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            method = node.func.attr
            made = names.maker(node.func.value) or names.dotted(node.func)
            top = made.partition(".")[0]
            if method not in _TRAINERS or top not in _tops(names.imports) or packages.is_instrumented(top):
                continue
            if method in _methods_if_training(top):
                yield Finding(
                    REFUSED, module.path, node.lineno, f"{ast.unparse(node.func)}() trains in {top}",
                    "loops of a library can't be checkpointed: run it, and check it, with "
                    f"--instrument {top}",
                )  # fmt: skip


def _tops(imports: dict[str, str]) -> set[str]:
    return {name.partition(".")[0] for name in imports.values() if not name.startswith(".")}


@cache
def _methods_if_training(top: str) -> frozenset[str]:
    """Names of all functions of an installed package, if backward is called in it; else nothing."""
    if top in NEVER or top in sys.stdlib_module_names:
        return frozenset()
    spec = packages.find(top)
    if spec is None or finder.is_user_file(spec.origin):
        return frozenset()
    trains = False
    functions: set[str] = set()
    for file in packages.files_of(spec):
        try:
            data = Path(file).read_bytes()[:LONGEST]
        except OSError:
            continue  # what can't be read can't be run either
        trains = trains or _BACKWARD.search(data) is not None
        functions.update(name.decode() for name in _DEF.findall(data))
    return frozenset(functions) if trains else frozenset()

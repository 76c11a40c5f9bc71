"""The modules of a program: its script, and what of the user's own (or instrumented) code that imports."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ckptd.errors import UsageError
from ckptd_agent.source import finder, neighbours, packages, table

MOST = 1000
"""Modules that are followed."""


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    path: str
    tree: ast.Module
    """As it is written, not rewritten."""
    source: table.Source
    """What the rewriting says of it."""

    def place(self, line: int) -> str:
        """'file:line', the file as seen from the working folder where that is shorter."""
        return f"{shown(self.path)}:{line}"


def shown(path: str) -> str:
    """A path as seen from the working folder, if it lies below it."""
    near = os.path.relpath(path)
    return path if near.startswith("..") else near


def find_script(script: str) -> str:
    """The file of a script; UsageError if there is none."""
    if script in ("-", "-c") or not os.path.exists(script):
        raise UsageError(f"{script}: no such script, give the file that holds the program")
    if os.path.isdir(script):
        script = os.path.join(script, "__main__.py")
    if not os.path.isfile(script):
        raise UsageError(f"{script}: not a file, give the script that holds the program")
    return os.path.abspath(script)


def find_module(name: str) -> str:
    """The file that ``python -m NAME`` runs; UsageError if there is none."""
    spec = packages.find(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = packages.find(f"{name}.__main__")
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise UsageError(f"-m {name}: no such module with a source, as seen from {os.getcwd()}")
    return os.path.abspath(spec.origin)


def follow(path: str, instrument: Sequence[str] = ()) -> list[Module]:
    """The program's modules, the main one first, each of them rewritten to see what comes of it.

    sys.path must be the program's. Raises UsageError for a package to instrument that isn't there.
    """
    folders = [
        os.path.dirname(path),
        *(each for each in map(os.path.abspath, sys.path) if os.path.isdir(each)),
    ]
    own = [each for each in dict.fromkeys(folders) if finder.is_user_file(os.path.join(each, "x.py"))]
    inside = _folders_of(instrument)
    found: dict[str, Module] = {}
    waiting = [path]
    while waiting and len(found) < MOST:
        file = waiting.pop(0)
        if file in found:
            continue
        module = _load(file, "__main__" if not found else _name_of(file))
        if module is None:
            continue
        found[file] = module
        waiting += [
            other
            for other in _imported(module, own, inside)
            if finder.is_user_file(other) or _is_below(other, inside)
        ]
    return list(found.values())


def _imported(module: Module, own: list[str], inside: list[str]) -> list[str]:
    found = list(neighbours.imported_files(module.tree, module.path, own))
    tops = {
        name.partition(".")[0]: name for level, name in neighbours.imported_names(module.tree) if not level
    }
    for top in tops:
        spec = packages.find(top) if packages.instrumented() else None
        if spec is not None and spec.origin and _is_below(spec.origin, inside):
            parents = [os.path.dirname(os.path.dirname(spec.origin)), os.path.dirname(spec.origin)]
            found += [
                os.path.abspath(spec.origin),
                *neighbours.imported_files(module.tree, module.path, parents),
            ]
    return found


def _folders_of(instrument: Sequence[str]) -> list[str]:
    folders = []
    for name in instrument:
        spec = packages.find(name)
        if spec is None:
            raise UsageError(f"--instrument {name}: no such package is installed here")
        folders += list(spec.submodule_search_locations or ()) or [spec.origin or ""]
    return [os.path.abspath(each) for each in folders if each]


def _is_below(path: str, folders: list[str]) -> bool:
    return any(path == each or path.startswith(each + os.sep) for each in folders)


def _name_of(path: str) -> str:
    below = os.path.relpath(path, neighbours.package_parent(path))
    return below.removesuffix(".py").removesuffix(os.sep + "__init__").replace(os.sep, ".")


def _load(path: str, name: str) -> Module | None:
    """Raises UsageError where the main script is no Python; another module will say so itself when imported."""
    try:
        data = Path(path).read_bytes()
        tree = ast.parse(data, path)
        finder.compile_user(name, path, data)
    except SyntaxError as error:
        if name != "__main__":
            return None
        raise UsageError(f"{shown(path)}:{error.lineno}: {error.msg}, so Python can't run it") from error
    except (OSError, ValueError) as error:
        if name != "__main__":
            return None
        raise UsageError(f"{shown(path)} can't be read as a Python script: {error}") from error
    return Module(name, path, tree, table.SOURCES[name])

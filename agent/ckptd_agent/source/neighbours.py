"""Which other modules of the user's a module leads to, and what the functions of all of them may do.

Read from the sources, since a module is rewritten before those are imported.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Sequence

from ckptd_agent.source import packages
from ckptd_agent.source.quiet import warnings_off
from ckptd_agent.source.summary import Summary, merge, summarize

MOST = 200
"""Modules that are looked at from one."""

_trees: dict[str, ast.Module | None] = {}
"""By path; None for what can't be parsed."""
_summaries: dict[str, Summary] = {}
_known: dict[str, None] = {}
"""Files of the user's that were met so far; kept only where packages are instrumented."""
_base: tuple[int, Summary] = (-1, merge([]))
"""The summary of all that is instrumented, and of how many files of the user's it is."""


def parse(file: str) -> ast.Module | None:
    """The syntax tree of a file; None if there is none: its own import will say what is wrong with it, and warn."""
    if file not in _trees:
        try:
            with open(file, "rb") as opened, warnings_off():
                _trees[file] = ast.parse(opened.read())
        except (OSError, SyntaxError, ValueError, RecursionError):
            _trees[file] = None
    return _trees[file]


def reach(tree: ast.Module, path: str) -> dict[str, ast.Module]:
    """Files of the modules beside this one that it imports, and that these import, with their syntax trees."""
    folder = os.path.dirname(os.path.abspath(path))
    seen: dict[str, ast.Module] = {}
    waiting = [(tree, os.path.abspath(path))]
    while waiting:
        each, place = waiting.pop()
        for file in imported_files(each, place, [folder]):
            if file in seen or len(seen) > MOST:
                continue
            found = parse(file)
            if found is not None:
                seen[file] = found
                waiting.append((found, file))
    return seen


def imported_files(tree: ast.Module, path: str, folders: Sequence[str]) -> Iterator[str]:
    """Files that a module imports, as far as they lie beside it or below ``folders``."""
    beside = [*folders, package_parent(path), os.path.dirname(path)]
    for level, name in imported_names(tree):
        for folder in [_above(path, level)] if level else dict.fromkeys(beside):
            stem = os.path.join(folder, *name.split(".")) if name else folder
            for file in (stem + ".py", os.path.join(stem, "__init__.py")):
                if os.path.isfile(file):
                    yield os.path.abspath(file)


def imported_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Level (0: absolute) and dotted name of what may be the modules that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
            yield from ((node.level, f"{node.module or ''}.{alias.name}".lstrip(".")) for alias in node.names)


def package_parent(path: str) -> str:
    """The folder that the package of a file lies in; the file's own where it is in none."""
    folder = os.path.dirname(path)
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder = os.path.dirname(folder)
    return folder


def _above(path: str, level: int) -> str:
    """The folder that so many dots at the beginning of a module's name stand for."""
    folder = os.path.dirname(path)
    for _ in range(level - 1):
        folder = os.path.dirname(folder)
    return folder


def summary_for(tree: ast.Module, path: str) -> Summary:
    """What the functions of a module, and of all that it leads to, may do.

    A library that is instrumented calls methods of the user's classes: then one summary is made of everything.
    """
    place = os.path.abspath(path)
    names = packages.instrumented()
    if not names:
        return merge([summarize(tree), *(_summary(file) for file in reach(tree, path))])
    if place not in _known:
        _summaries.setdefault(place, summarize(tree))
        _known.update(dict.fromkeys([place, *reach(tree, path)]))
        for name in names:
            spec = packages.find(name)
            _known.update(dict.fromkeys(packages.files_of(spec) if spec is not None else ()))
    return _of_everything()


def _of_everything() -> Summary:
    global _base
    if _base[0] != len(_known):
        _base = (len(_known), merge([_summary(file) for file in _known]))
    return _base[1]


def _summary(file: str) -> Summary:
    if file not in _summaries:
        tree = parse(file)
        _summaries[file] = summarize(tree) if tree is not None else merge([])
    return _summaries[file]

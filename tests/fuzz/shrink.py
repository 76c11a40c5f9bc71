"""Makes a failing program small: statements are deleted, and blocks unwrapped, while it still fails."""

from __future__ import annotations

import ast
import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

Fails = Callable[[str], bool]
BLOCKS = ("body", "orelse", "finalbody", "handlers")


def shrink(text: str, fails: Fails, most: int = 1500) -> str:
    """The smallest program found that ``fails`` with at most so many tries."""
    tries = 0

    def still(tree: ast.Module) -> bool:
        nonlocal tries
        tries += 1
        try:
            candidate = ast.unparse(ast.fix_missing_locations(tree)) + "\n"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(candidate, "program.py", "exec")
        except (SyntaxError, ValueError, AttributeError):
            return False
        return fails(candidate)

    tree = ast.parse(text)
    if not still(tree):  # the text as ast.unparse writes it
        return text
    for size in (16, 4, 1, 1):
        for edits in (_deletions, _unwrappings, _replacements) if size == 1 else (_deletions,):
            place = 0
            while tries < most:
                every = list(edits(tree, size))
                if place >= len(every):
                    break
                candidate = copy.deepcopy(tree)
                if every[place](candidate) and still(candidate):
                    tree = candidate  # what was at this place is gone: the next edit has its number
                else:
                    place += 1
    return ast.unparse(tree) + "\n"


Edit = Callable[[ast.Module], bool]


def _blocks(tree: ast.Module) -> Iterator[tuple[Any, str]]:
    for node in ast.walk(tree):
        for name in BLOCKS:
            if isinstance(getattr(node, name, None), list):
                yield node, name


def _deletions(tree: ast.Module, size: int) -> Iterator[Edit]:
    """From behind, so that uses go before what they use."""
    blocks = list(_blocks(tree))
    for number, (node, name) in reversed(list(enumerate(blocks))):
        length = len(getattr(node, name))
        for start in range(max(0, length - size), -1, -size) if length > size else [0]:
            if length:
                yield lambda other, number=number, start=start: _delete(other, number, start, size)  # type: ignore[misc]


def _delete(tree: ast.Module, number: int, start: int, size: int) -> bool:
    node, name = list(_blocks(tree))[number]
    block = getattr(node, name)
    if [type(each) for each in block[start : start + size]] == [ast.Pass]:
        return False
    del block[start : start + size]
    if not block and name == "body" and not isinstance(node, ast.Module):
        block.append(ast.Pass())
    return not isinstance(node, ast.Try) or bool(node.handlers or node.finalbody)


def _unwrappings(tree: ast.Module, size: int) -> Iterator[Edit]:
    """Compound statements become their bodies."""
    for number, (node, name) in enumerate(_blocks(tree)):
        for place, statement in enumerate(getattr(node, name)):
            if isinstance(statement, ast.If | ast.For | ast.While | ast.Try | ast.With):
                yield lambda other, number=number, place=place: _unwrap(other, number, place)  # type: ignore[misc]


def _replacements(tree: ast.Module, size: int) -> Iterator[Edit]:
    """Expressions become constants, or parts of theirs."""
    for number, node in enumerate(ast.walk(tree)):
        for field, value in ast.iter_fields(node):
            for place, each in enumerate(value if isinstance(value, list) else [value]):
                if not isinstance(each, ast.expr) or isinstance(each, ast.Constant | ast.Name):
                    continue
                parts = [part for part in ast.iter_child_nodes(each) if isinstance(part, ast.expr)]
                for part in range(-1, len(parts)):
                    yield lambda other, n=number, f=field, p=place, w=part: _replace(other, n, f, p, w)  # type: ignore[misc]


def _unwrap(tree: ast.Module, number: int, place: int) -> bool:
    node, name = list(_blocks(tree))[number]
    block = getattr(node, name)
    block[place : place + 1] = block[place].body
    return True


def _replace(tree: ast.Module, number: int, field: str, place: int, part: int) -> bool:
    node = list(ast.walk(tree))[number]
    value = getattr(node, field)
    old = value[place] if isinstance(value, list) else value
    if getattr(old, "ctx", None).__class__ in (ast.Store, ast.Del):
        return False
    new: ast.expr = ast.Constant(1)
    if part >= 0:
        new = [each for each in ast.iter_child_nodes(old) if isinstance(each, ast.expr)][part]
    if isinstance(value, list):
        value[place] = new
    else:
        setattr(node, field, new)
    return True

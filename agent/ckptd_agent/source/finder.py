"""Finders that hand the interpreter rewritten code for the main script and for the modules beside it.

CPython asks ``sys.path_hooks`` for an importer of the script's own path before it compiles the script
(that is how zip applications run), and runs ``__main__`` through it with runpy. Other modules of the
user's, ``python -m`` included, go through a finder on ``sys.meta_path`` whose loader overrides
``get_code``; overriding ``source_to_code`` alone would be bypassed by cached .pyc files.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import sys
import sysconfig
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from ckptd_agent.source import packages, table, tracebacks
from ckptd_agent.source.neighbours import summary_for
from ckptd_agent.source.rewrite import rewrite


def install(script: str) -> None:
    """Register the finders; ``script`` is the path of the main script as given, or '' for ``-m``."""
    from ckptd_agent.loops import hooks

    hooks.install()
    if script:
        sys.path_hooks.insert(0, _ScriptHook(script))
        for path in (script, os.path.join(os.getcwd(), script)):
            sys.path_importer_cache.pop(path, None)
        tracebacks.install()
    sys.meta_path.insert(0, UserFinder())


def compile_user(name: str, path: str, data: bytes, *, prelude: bool = False) -> CodeType:
    """Rewrite and compile one module of the user's; the plain code if it can't be rewritten.

    With ``prelude`` the module first puts its namespace into the state that a plain run has.
    """
    source = table.Source(name, path, hashlib.sha256(data).hexdigest())
    tree = compile(data, path, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)  # SyntaxError as without us
    assert isinstance(tree, ast.Module)
    table.SOURCES[name] = source
    try:
        tree = rewrite(tree, source, summary_for(tree, path))
        if prelude:
            _insert_prelude(tree)
        code = compile(tree, path, "exec", dont_inherit=True)
    except (SyntaxError, RecursionError):  # too many nested blocks, too deep an expression
        source.calls.clear()
        code = compile(data, path, "exec", dont_inherit=True)
        source.bare.update((each.co_firstlineno, each.co_name) for each in table.nested_codes(code))
    table.add_code(code, source)
    return code


def _insert_prelude(tree: ast.Module) -> None:
    """Call ``_ck_main`` first of all, behind the docstring and imports from __future__."""
    place = 0
    for place, statement in enumerate(tree.body):
        docstring = (
            place == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        )
        future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        if not docstring and not future:
            break
    else:
        return
    call = ast.parse("_ck_main()").body[0]
    for node in ast.walk(call):
        ast.copy_location(node, tree.body[place])
    tree.body.insert(place, call)


class _ScriptHook:
    """A path hook for exactly one path: the main script's."""

    def __init__(self, script: str) -> None:
        self.script = script

    def __call__(self, path: str) -> _ScriptFinder:
        # The interpreter may have made the path absolute, without normalizing it.
        if not os.path.isfile(path) or os.path.realpath(path) != os.path.realpath(self.script):
            raise ImportError
        sys.path_hooks.remove(self)
        return _ScriptFinder(path)


class _ScriptFinder:
    def __init__(self, path: str) -> None:
        self.path = path

    def find_spec(self, name: str, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "__main__":
            return None
        loader = _ScriptLoader("__main__", self.path)
        return ModuleSpec("__main__", loader, origin=self.path)


class _ScriptLoader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        folder = os.path.dirname(os.path.realpath(self.path))
        if sys.path and sys.path[0] == self.path:  # the interpreter put the script's own path there
            if _safe_path():
                del sys.path[0]
            else:
                sys.path[0] = folder
        sys.path_importer_cache.pop(self.path, None)
        return compile_user("__main__", self.path, self.get_data(self.path), prelude=True)


def _safe_path() -> bool:
    return bool(getattr(sys.flags, "safe_path", False))


class _UserLoader(SourceFileLoader):
    @tracebacks.hidden
    def get_code(self, fullname: str) -> CodeType:
        return _call_with_frames_removed(fullname, self.path, self.get_data(self.path))


@tracebacks.hidden
def _call_with_frames_removed(name: str, path: str, data: bytes) -> CodeType:
    """By this name the interpreter knows where to cut its own frames, and these, out of a traceback."""
    try:
        return compile_user(name, path, data)
    except SyntaxError as error:
        raise error.with_traceback(None)  # noqa: B904 - it is the same one


class UserFinder(MetaPathFinder):
    """Finds modules of the user's, and of packages that are instrumented, and has them rewritten."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        named = packages.is_instrumented(name)
        if not named and path is not None and all(map(_is_foreign, path)):
            return None  # looking for each of torch's 2,000 modules twice would take 0.2 s
        spec = PathFinder.find_spec(name, path, target)
        if spec is None and named:
            spec = self._find_by_others(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        if not named and not is_user_file(spec.origin):
            return None
        spec.loader = _UserLoader(spec.loader.name, spec.loader.path)
        return spec

    def _find_by_others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        """A package that is installed as editable has a finder of its own."""
        for finder in sys.meta_path:
            look = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = look(name, path, target) if look is not None else None
            if spec is not None:
                return spec
        return None


def is_user_file(path: str | None) -> bool:
    """The user's own source: not of the interpreter, not of an installed package, not of ckptd."""
    if not path:
        return False
    real = os.path.realpath(path)
    parts = real.split(os.sep)
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    return not any(real.startswith(folder + os.sep) for folder in _FOREIGN)


@functools.cache
def _is_foreign(folder: str) -> bool:
    """A package's folder that none of the user's own sources lies in."""
    above = os.path.dirname(folder)
    if above in ("", folder):
        return False
    if _is_foreign(above) and not os.path.islink(folder):
        return True
    return os.path.isabs(folder) and not is_user_file(os.path.join(folder, "__init__.py"))


def _foreign_folders() -> list[str]:
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folders = [own]
    paths: dict[str, Any] = sysconfig.get_paths()
    folders += [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    spec = PathFinder.find_spec("ckptd")
    if spec is not None and spec.origin:
        folders.append(os.path.dirname(spec.origin))
    return [os.path.realpath(folder) for folder in folders]


_FOREIGN = _foreign_folders()

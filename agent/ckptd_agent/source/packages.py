"""Installed packages that are taken for the user's own code: ``ckptd run --instrument PACKAGE``.

A framework's trainer holds the loops of a program whose script only calls it. Named with --instrument, its modules
are rewritten as the user's are, and all that is said of the user's code (safe points, state in modules,
sources that must not change) holds for them.
"""

from __future__ import annotations

import functools
import os
from importlib.machinery import ModuleSpec, PathFinder

VARIABLE = "CKPTD_INSTRUMENT"
MOST_FILES = 400
"""Files of one package that are read for what its functions lead to."""


@functools.cache
def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def instrumented() -> tuple[str, ...]:
    """Names of packages or modules, as ``ckptd run`` passes them on."""
    return _names(os.environ.get(VARIABLE, ""))


def is_instrumented(module: str) -> bool:
    """Whether a module belongs to one of the packages that were named."""
    return any(module == name or module.startswith(name + ".") for name in instrumented())


def find(name: str, path: list[str] | None = None) -> ModuleSpec | None:
    """The spec of a module, maybe with dots in its name, without importing any; None if it isn't there.

    ``path`` are the folders to look in, as sys.path has them; that by default.
    """
    spec: ModuleSpec | None = None
    before: list[str] = []
    for part in name.split("."):
        before.append(part)
        spec = PathFinder.find_spec(".".join(before), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return spec


def files_of(spec: ModuleSpec) -> list[str]:
    """Python files of a package, or the one of a module; at most MOST_FILES."""
    folders = list(spec.submodule_search_locations or ())
    if not folders:
        return [spec.origin] if spec.origin and spec.origin.endswith(".py") else []
    found: list[str] = []
    for folder in folders:
        for above, below, names in os.walk(folder):
            below[:] = sorted(each for each in below if each.isidentifier())
            found += [os.path.join(above, name) for name in sorted(names) if name.endswith(".py")]
            if len(found) >= MOST_FILES:
                return found[:MOST_FILES]
    return found

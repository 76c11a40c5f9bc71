"""Reading and writing the variables of frames that run or are suspended."""

from __future__ import annotations

import ctypes
import sys
from types import FrameType
from typing import Any

from ckptd_agent.graph.graft import kept
from ckptd_agent.loops import variables as running

if sys.version_info < (3, 13):
    _to_fast = ctypes.pythonapi.PyFrame_LocalsToFast
    _to_fast.argtypes = [ctypes.py_object, ctypes.c_int]
    _to_fast.restype = None

COMPILERS = ("__compiled_fn_", "__resume_at_", "__builtins_dict__", "__import_", "__load_module_")
"""What torch's compiler puts into the namespaces of modules; beginnings of names."""


def read(frame: FrameType) -> dict[str, Any]:
    """The variables of a function's frame, or the namespace of a module's."""
    if frame.f_code.co_name == "<module>":
        return {name: value for name, value in frame.f_globals.items() if is_variable(name)}
    return running.read(frame)


def is_variable(name: Any) -> bool:
    """A name of a module that belongs to the user and not to the import system or to torch's compiler."""
    if not isinstance(name, str) or not name.startswith("__"):
        return True
    return not (name.endswith("__") or name.startswith(COMPILERS))


def write(frame: FrameType, variables: dict[str, Any]) -> None:
    """Set the frame's variables to exactly these; others are unbound where the interpreter can do that."""
    own = frame.f_globals if frame.f_code.co_name == "<module>" else frame.f_locals
    variables = kept(dict(own), list(variables), list(variables.values()))
    if frame.f_code.co_name == "<module>":
        write_module(frame.f_globals, variables)
        return
    names = frame.f_locals
    if sys.version_info >= (3, 13):
        for name, value in variables.items():
            names[name] = value
        return
    names.clear()
    names.update(variables)
    _to_fast(ctypes.py_object(frame), ctypes.c_int(1))
    names.clear()  # the frame would keep what it refers to


def write_module(namespace: dict[str, Any], variables: dict[str, Any]) -> None:
    """Set a module's variables to exactly these, in their order, the import system's names left alone."""
    if [name for name in namespace if is_variable(name)] == list(variables):
        namespace.update(variables)
        return
    for name in [name for name in namespace if is_variable(name) and name not in variables]:
        del namespace[name]
    for name, value in variables.items():
        namespace.pop(name, None)
        namespace[name] = value

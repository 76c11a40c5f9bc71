"""Exceptions read as without us: frames of ours, and of runpy below the main module, are left out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType, TracebackType
from typing import Any, TypeVar

_plain: Any = sys.excepthook
F = TypeVar("F", bound=Callable[..., Any])


def install() -> None:
    """Take the place of the interpreter's own hook, as the program sees it, too."""
    global _plain
    if sys.excepthook is sys.__excepthook__:
        _plain = sys.__excepthook__
        sys.excepthook = sys.__excepthook__ = _without_runpy


def hidden(function: F) -> F:
    """Let the interpreter take a function for one of its import system, whose frames it leaves out."""
    assert isinstance(function, FunctionType)
    function.__code__ = function.__code__.replace(co_filename="<frozen importlib._bootstrap>")
    return function


def _without_runpy(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    while trace is not None and _is_foreign(trace):
        trace = trace.tb_next
    _plain(kind, error.with_traceback(trace), trace)


def _is_foreign(trace: TracebackType) -> bool:
    name = str(trace.tb_frame.f_globals.get("__name__"))
    if name.startswith("ckptd_agent."):
        return True  # the main module has an error of syntax
    return name == "runpy" and trace.tb_next is not None

"""Uncaught exceptions read as without us: the main module runs below two frames of runpy, which are left out."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

_plain: Any = sys.excepthook


def install() -> None:
    """Take the place of the interpreter's own hook, as the program sees it, too."""
    global _plain
    if sys.excepthook is sys.__excepthook__:
        _plain = sys.__excepthook__
        sys.excepthook = sys.__excepthook__ = _without_runpy


def _without_runpy(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    while (
        trace is not None
        and trace.tb_frame.f_globals.get("__name__") == "runpy"
        and trace.tb_next is not None
    ):
        trace = trace.tb_next
    _plain(kind, error.with_traceback(trace), trace)

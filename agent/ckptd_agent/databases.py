"""Databases that a replay opens: rows that the first run has written before its loops must not be written again."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ckptd_agent import link

_TRACKERS = ("mlflow",)
"""Packages that go on with what they had written: their rows are no part of the program's doing."""
_watchers: dict[Any, None] = {}
"""Authorizers that stand at connections. A connection can't be referred to weakly: they lead to it."""


def guard(real: Callable[..., Any]) -> Callable[..., Any]:
    """Before sqlite3.connect: connections to files refuse the resume when rows are about to be changed."""

    def connect(*args: Any, **kwargs: Any) -> Any:
        connection = real(*args, **kwargs)
        if not _is_trackers(sys._getframe(1)):
            _attend(connection)
        return connection

    return connect


def end() -> None:
    """The connections are the program's own again."""
    found = gc.get_referrers(*_watchers) if _watchers else []
    module = sys.modules.get("sqlite3")
    for each in found:
        if module is not None and isinstance(each, module.Connection):
            with suppress(
                module.Error
            ):  # it is another thread's, or closed: the authorizer allows all by now
                each.set_authorizer(None if sys.version_info >= (3, 11) else lambda *_: module.SQLITE_OK)
    _watchers.clear()


def _attend(connection: Any) -> None:
    import sqlite3

    # Past the connection's own methods, which a subclass may have others in place of.
    rows = sqlite3.Cursor(connection).execute("PRAGMA database_list").fetchall()
    paths = {row[1]: row[2] for row in rows}
    changes = (
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_DROP_TABLE,
    )

    def watcher(action: int, table: str | None, other: str | None, schema: str | None, by: str | None) -> int:
        if watcher not in _watchers:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_ATTACH:
            attached.append(
                "that is attached" if table is None else table
            )  # None: by a statement's parameter
        elif action in changes and not (table or "").startswith("sqlite_"):
            path = paths.get(schema or "", attached[-1] if attached else "")
            if path not in ("", ":memory:"):
                _refuse(table, path)
        return sqlite3.SQLITE_OK

    attached: list[str] = []
    sqlite3.Connection.set_authorizer(connection, watcher)
    _watchers[watcher] = None


def _refuse(table: str | None, path: str) -> None:
    link.refuse(
        f"the program writes into the table {table!r} of the database {path} on its way to the checkpoint, and what it "
        "has written there before would be there twice: let it write in its training loop, or look first whether it has"
    )


def _is_trackers(frame: Any) -> bool:
    """One of these packages is about to use it, through whatever lies between."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _TRACKERS:
            return True
        frame = frame.f_back
    return False

"""Tables, sentences and progress, the same for all verbs: for people on a terminal, in a pipe, and without colour."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

GAP = "  "
NARROWEST = 8
"""Columns of text are cut to no less."""
PATIENCE = 1.0
"""Seconds after which what goes on shows how far it is."""
Command = TypeVar("Command", bound=Callable[..., Any])


def store_option(command: Command) -> Command:
    """``--store DIR``."""
    return click.option(
        "--store", type=click.Path(path_type=Path), envvar="CKPTD_STORE", metavar="DIR",
        help="Where the checkpoints are.  [default: $CKPTD_STORE, else ~/.local/state/ckptd]",
    )(command)  # fmt: skip


def json_option(command: Command) -> Command:
    """``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, envvar="CKPTD_JSON", help="Everything, for programs."
    )(command)


printed = 0
"""Answers to --json so far."""


def print_json(value: Any) -> None:
    """What a verb has found, for programs: all of it, once."""
    global printed
    printed += 1
    click.echo(json.dumps(value, indent=1))


def job_option(command: Command) -> Command:
    """``--job NAME``."""
    return click.option("--job", metavar="JOB", help="Only of this job: a name, or the beginning of an id.")(
        command
    )


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    right: bool = False
    """Numbers stand at the right."""
    gives: bool = False
    """Cut, with an ellipsis, where the terminal is too narrow."""


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], red: Sequence[bool] = ()) -> None:
    """Rows under their headings, in columns as wide as they need, and no wider than the terminal.

    Where the terminal is too narrow for that, each row is a few lines, a column in each.
    ``red``: which rows stand out, where there is colour. A pipe has no edge, so nothing is cut there.
    """
    terminal = sys.stdout.isatty()
    room = shutil.get_terminal_size().columns if terminal else 0
    marks = red or [False] * len(rows)
    lines = lay_out(columns, rows, room)
    if room and max(map(width, lines)) > room:
        for number, (row, mark) in enumerate(zip(rows, marks, strict=True)):
            click.echo(
                "\n" * (number > 0)
                + "\n".join(_styled(line, "31" * mark) for line in stack(columns, row, room))
            )
        return
    for line, style in zip(lines, ["1", *("31" * mark for mark in marks)], strict=True):
        click.echo(_styled(line, style))


def _styled(line: str, style: str) -> str:
    return f"\x1b[{style}m{line}\x1b[0m" if style and coloured() else line


def stack(columns: Sequence[Column], row: Sequence[str], room: int) -> list[str]:
    """A row as lines, each with a column's name and its cell; at most ``room`` wide."""
    wide = max(width(column.name) for column in columns)
    cells = [printable(cell) for cell in row]
    lines = [
        f"{column.name:<{wide}}{GAP}{cell}"
        for column, cell in zip(columns, cells, strict=True)
        if cell.strip()
    ]
    return [cut(line, room) for line in lines]


def coloured() -> bool:
    """Whether the output takes colour: a terminal does, unless NO_COLOR says no."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int = 0) -> list[str]:
    """The lines of a table, headings first; at most ``room`` wide, 0: as wide as need be."""
    table = [[column.name for column in columns], *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*table, strict=True)]
    _give(widths, columns, room)
    return [_line(cells, widths, columns) for cells in table]


def _give(widths: list[int], columns: Sequence[Column], room: int) -> None:
    """Make columns that may be cut narrower, the widest first, until all fit."""
    while room and (over := sum(widths) + len(GAP) * (len(widths) - 1) - room) > 0:
        giving = [at for at, column in enumerate(columns) if column.gives and widths[at] > NARROWEST]
        if not giving:
            return
        widest = max(giving, key=lambda at: widths[at])
        widths[widest] -= min(over, widths[widest] - NARROWEST)


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    parts = []
    for cell, wide, column in zip(cells, widths, columns, strict=True):
        text = cut(cell, wide)
        blanks = " " * (wide - width(text))
        parts.append(blanks + text if column.right else text + blanks)
    return GAP.join(parts).rstrip()


def cut(text: str, wide: int) -> str:
    """A text of at most that many columns of a terminal."""
    if width(text) <= wide:
        return text
    kept = text[: wide - 1]
    while width(kept) > wide - 1:
        kept = kept[:-1]
    return kept + "\N{HORIZONTAL ELLIPSIS}"


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def printable(text: str) -> str:
    """Text from a store as a terminal may have it: no control characters, no lone surrogates."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


Advance = Callable[[int], None]


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """While the body waits for something else: after PATIENCE a terminal says for what."""
    if not sys.stderr.isatty():
        yield
        return

    def show() -> None:
        click.echo(f"{what} ...", err=True)

    timer = threading.Timer(PATIENCE, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def progress(what: str, total: int, *, sized: bool = True) -> Iterator[Advance]:
    """A bar on the terminal (stderr) for what takes more than a second; ``total`` bytes to go through.

    The body calls what it is given with the bytes done since the last call. Without ``sized`` they are parts of
    another kind, of which only the share is shown. The bar goes once all is done.
    """
    begun, done = time.monotonic(), 0
    bar: Any = None
    task: Any = None
    shown = sys.stderr.isatty()

    def advance(count: int) -> None:
        nonlocal bar, task, done
        done += count
        if not shown or time.monotonic() - begun < PATIENCE or 0 < total <= done:
            if bar is not None:
                bar.stop()
                bar = None
            return
        if bar is None:
            bar = _bar(sized=sized)
            task = bar.add_task(what, total=total or None)
            bar.start()
        bar.update(task, completed=min(done, total) if total else done)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


def _bar(*, sized: bool) -> Any:
    # Here, so that every other command starts without rich (a tenth of a second).
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn() if sized else TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip

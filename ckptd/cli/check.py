"""``ckptd check``: what will be carried over, and what will be refused, before anything is run."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from ckptd.errors import RefusedError, UsageError
from ckptd.settings import parse_packages

if TYPE_CHECKING:
    from rich.console import Console

    from ckptd.check.report import Report

STYLES = {"refused": "bold red", "perhaps": "yellow", "note": "dim"}
SAID = {"refused": "refused", "perhaps": "refused or not exact", "note": "note"}


@click.command("check", context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
@click.option("-m", "module", metavar="MODULE", help="Look at a module, as python -m takes it.")
@click.option(
    "--instrument",
    envvar="CKPTD_INSTRUMENT",
    multiple=True,
    metavar="PACKAGE",
    help="As for ckptd run: look into an installed package whose loops train. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, envvar="CKPTD_JSON", help="Everything, for programs.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="SCRIPT [ARGS]...")
def check(module: str | None, instrument: tuple[str, ...], as_json: bool, words: tuple[str, ...]) -> int:
    """Say of a program, without running it, where it can be saved and what can't be carried over.

    The exit status is 0, or 14 if something will surely be refused.
    """
    words = _without_python(words)
    if words and module is None and words[0] == "-m":
        module, words = (words[1] if len(words) > 1 else ""), words[2:]
    if not module and not words:
        raise UsageError("no script to look at: ckptd check train.py")
    # Here, so that a mistake in the flags is told at once.
    from ckptd.check.report import look_at

    report = look_at(module or words[0], as_module=bool(module), instrument=parse_packages(instrument))
    if as_json:
        click.echo(json.dumps(report.as_map(), indent=1))
    else:
        _print(report)
    return RefusedError.status if report.refused else 0


def _without_python(words: tuple[str, ...]) -> tuple[str, ...]:
    """``ckptd check python train.py`` is what a habit of ``ckptd run`` writes."""
    if words and words[0] == "--":
        words = words[1:]
    name = words[0].rpartition("/")[2] if words else ""
    return words[1:] if name.startswith("python") and not name.endswith(".py") and len(words) > 1 else words


def _print(report: Report) -> None:
    # Here, so that every other command starts without rich (a tenth of a second).
    from rich.console import Console
    from rich.text import Text

    from ckptd.check.modules import shown

    # rich takes 80 columns for a pipe; a pipe has no edge, so nothing is cut there.
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=1000)
    _print_loops(report, console)
    if report.carried:
        console.print(Text("\nCarried over", style="bold"))
        for kind in dict.fromkeys(each.kind for each in report.carried):
            things = [
                f"{each.what} ({shown(each.path)}:{each.line})"
                for each in report.carried
                if each.kind == kind
            ]
            console.print(Text(f"  {kind}: {', '.join(dict.fromkeys(things))}"), soft_wrap=True)
    if report.findings:
        console.print(Text("\nRefused, or not exact", style="bold"))
    for each in report.findings:
        text = Text(f"  {shown(each.path)}:{each.line}: ")
        text.append(f"{SAID[each.level]}: ", style=STYLES[each.level])
        text.append(f"{each.what}: {each.why}")
        console.print(text, soft_wrap=True)
    console.print(
        Text("\n" + _verdict(report), style="bold red" if report.refused else "bold green"), soft_wrap=True
    )


def _print_loops(report: Report, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from ckptd.check.modules import shown

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("LOOP", "", "TRAINS", "SAFE POINT"):
        table.add_column(name, overflow="fold" if name else "ellipsis", no_wrap=not name)
    for loop in report.loops:
        trains = loop.trains if loop.trains in ("", "directly") else f"through {loop.trains}"
        safe = "yes" if loop.safe_point else f"no: {loop.why}"
        style = "bold" if loop.trains and loop.safe_point else "" if loop.safe_point or loop.trains else "dim"
        cells = (f"{shown(loop.path)}:{loop.line}", loop.head, trains or "-", safe)
        table.add_row(*map(Text, cells), style=style)
    if report.loops:
        console.print(table)
    else:
        console.print(Text("no loops"))


def _verdict(report: Report) -> str:
    from ckptd.check.modules import shown

    trains = [loop for loop in report.loops if loop.trains and loop.safe_point]
    if report.refused:
        first = report.refused[0]
        place = f"{shown(first.path)}:{first.line}"
        return f"refused: {len(report.refused)} thing(s) keep it from being saved, the first at {place}"
    if not trains:
        return "nothing is refused, but no loop here seems to train"
    points = sum(1 for loop in report.loops if loop.safe_point)
    return f"it can be saved: {len(trains)} loop(s) that train, {points} safe point(s) in all"

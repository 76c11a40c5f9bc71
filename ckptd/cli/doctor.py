"""``ckptd doctor``: before it matters, whether a job's state fits into the time that a notice leaves here."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckptd.cli.output import Column, coloured, json_option, print_table, printable, progress
from ckptd.errors import UsageError
from ckptd.settings import parse_duration

if TYPE_CHECKING:
    from ckptd.doctor.findings import Finding
    from ckptd.doctor.report import Report

LOST = 1
"""Exit status: as things are, something would lose work."""
WIDEST = 100
"""Columns of sentences, on a wide terminal."""
_QUANTITY = re.compile(r"(\d) (s|min|h|bytes|B|kB|MB|GB|TB)\b")


@click.command("doctor", context_settings={"allow_interspersed_args": False})
@click.option(
    "--name", envvar="CKPTD_NAME", default="", metavar="NAME", help="The job's name, as for ckptd run."
)
@click.option(
    "--size",
    default="",
    metavar="24G",
    help="The state's size, where the store has no checkpoint of the job.",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    envvar="CKPTD_STORE",
    metavar="DIR",
    help="Where checkpoints will be.  [default: $CKPTD_STORE, else ~/.local/state/ckptd]",
)
@click.option("--remote", envvar="CKPTD_REMOTE", default="", metavar="URL", help="Also measure this remote.")
@click.option(
    "--grace",
    envvar="CKPTD_GRACE",
    default="25s",
    show_default=True,
    metavar="TIME",
    help="As for ckptd run.",
)
@click.option("--unit", default="", metavar="UNIT", help="The systemd unit that will run the job.")
@click.option("--quick", is_flag=True, help="Measure nothing: only look.")
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD...]")
def doctor(
    name: str, size: str, store: Path | None, remote: str, grace: str, unit: str, quick: bool, as_json: bool,
    command: tuple[str, ...],
) -> int:  # fmt: skip
    """Measure this machine, and say whether a job can be saved in the time that it will be given.

    With CMD or --name the size of the state is that of the job's newest checkpoint, and the command is looked at,
    not run. No address is asked, but that of the remote. The exit status is 0, or 1 if something would lose work.
    """
    # Here, so that a mistake in the flags is told at once.
    from ckptd.doctor.machine import Machine
    from ckptd.doctor.report import Question, examine
    from ckptd.doctor.size import parse_size
    from ckptd.remote.backend import check_url
    from ckptd.store.layout import default_store

    remote = "" if remote == "none" else remote
    if remote:
        check_url(remote)
    seconds = parse_duration(grace)
    if seconds <= 0:
        raise UsageError(f"--grace {grace}: must be more than nothing")
    question = Question(
        store=store or default_store(), argv=command, name=name, nbytes=parse_size(size) if size else 0,
        remote=remote, grace=seconds, unit=unit, quick=quick,
    )  # fmt: skip
    with progress("measuring", 0) as advance:
        report = examine(question, Machine(), advance)
    if as_json:
        click.echo(json.dumps(report.as_map(), indent=1))
    else:
        _print(report, question.remote)
    return LOST if report.loses else 0


def _print(report: Report, remote: str) -> None:
    from ckptd.doctor.words import figures, size_table, state_words, verdict, verdict_table

    named = figures(report, remote)
    widest = max(len(name) for name, _ in named)
    for name, text in named:
        _say(text, name=f"{name:{widest}}  ")
    click.echo()
    _say(state_words(report, remote))
    for table in (size_table, verdict_table):
        columns, rows = table(report, bool(remote))
        if rows:
            click.echo()
            print_table([Column(each, right=at > 0) for at, each in enumerate(columns)], rows)
    for finding in report.findings:
        click.echo()
        _tell(finding)
    click.echo()
    text, good = verdict(report)
    _say(text, "1;32" if good else "1;31")


def _tell(finding: Finding) -> None:
    from ckptd.doctor.findings import LOSES, WARNS

    style = {LOSES: "31", WARNS: "33"}.get(finding.severity, "2")
    _say(f"{finding.severity}: {finding.what}", style)
    _say(finding.text, name="  ")
    if finding.mend:
        # Never broken: it is there to be copied.
        click.echo(printable(f"    {finding.mend}"))


def _say(text: str, style: str = "", name: str = "") -> None:
    """A sentence behind its name, broken where the terminal ends; a pipe has no edge."""
    lines = [printable(text)]
    if sys.stdout.isatty():
        room = min(WIDEST, shutil.get_terminal_size().columns) - len(name)
        bound = _QUANTITY.sub("\\1\N{NO-BREAK SPACE}\\2", lines[0])  # a unit stays beside its number
        lines = textwrap.wrap(bound, max(20, room), break_long_words=False, break_on_hyphens=False)
        lines = [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
    for at, line in enumerate(lines):
        begin = " " * len(name) if at else name
        click.echo(f"\x1b[{style}m{begin}{line}\x1b[0m" if style and coloured() else f"{begin}{line}")

"""``ckptd prove``: whether a command is the same with and without interruptions."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ckptd.errors import UsageError
from ckptd.settings import parse_duration


@click.command("prove", context_settings={"allow_interspersed_args": False})
@click.option(
    "--stops",
    envvar="CKPTD_PROVE_STOPS",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="How many interruptions.",
)
@click.option(
    "--seed",
    envvar="CKPTD_PROVE_SEED",
    type=int,
    metavar="S",
    help="Draws the same steps to stop at again.  [default: drawn, and told]",
)
@click.option(
    "--link",
    envvar="CKPTD_PROVE_LINK",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Only read by the command: linked into the copies rather than copied. May be given more than once.",
)
@click.option(
    "--scratch",
    envvar="CKPTD_PROVE_SCRATCH",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the copies are made.  [default: the place for temporary files]",
)
@click.option("--keep", envvar="CKPTD_PROVE_KEEP", is_flag=True, help="Leave the copies there.")
@click.option(
    "--grace",
    envvar="CKPTD_PROVE_GRACE",
    default="60s",
    show_default=True,
    metavar="TIME",
    help="How long an interruption waits for a place to save at.",
)
@click.option("--json", "as_json", is_flag=True, envvar="CKPTD_JSON", help="Everything, for programs.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD...")
def prove(
    stops: int, seed: int | None, link: tuple[Path, ...], scratch: Path | None, keep: bool, grace: str,
    as_json: bool, command: tuple[str, ...],
) -> int:  # fmt: skip
    """Run CMD plain and with N interruptions, in copies of this folder, and compare it step by step.

    Loss, parameters, optimizers, random generators and variables at each training step; stdout and files at
    the end. First it is run plain twice: a program that differs from itself is told so, and which switch
    would help.

    Exit status: 0 identical, 15 differs, 16 not deterministic by itself, 14 ckptd refused to resume, 3 fewer
    interruptions took place than were asked for.
    """
    if not command:
        raise UsageError("no command to run: ckptd prove [FLAGS] -- python train.py")
    if parse_duration(grace) <= 0:
        raise UsageError(f"--grace {grace}: must be more than nothing")
    from ckptd.daemon.launch import resolve
    from ckptd.prove import verdict
    from ckptd.prove.proof import Wishes, prove

    resolve(command)
    wishes = Wishes(command, stops, seed, grace, scratch=scratch, link=link, keep=keep)
    with _progress() as progress:
        proof = prove(wishes, progress)
    if as_json:
        click.echo(json.dumps(verdict.as_map(proof), indent=1))
    else:
        click.echo(verdict.markdown(proof), nl=False)
    return verdict.judge(proof)[1]


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr for people; a line for each run where nobody watches."""
    if not sys.stderr.isatty():
        yield _say_runs()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = ""

        def show(name: str, done: int, total: int) -> None:
            nonlocal shown
            if name != shown:
                for task in bar.task_ids:
                    bar.remove_task(task)
                bar.add_task(name, total=total or None)
                shown = name
            bar.update(bar.task_ids[0], completed=done)

        yield show


def _say_runs() -> Callable[[str, int, int], None]:
    said = ""

    def say(name: str, done: int, total: int) -> None:
        nonlocal said
        if name != said:
            print(f"ckptd: running {name}", file=sys.stderr)
            said = name

    return say

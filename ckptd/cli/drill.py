"""``ckptd drill``: play a notice to a running job, and measure whether it is saved in time."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ckptd import control
from ckptd.cli.one import one_job, reach_job
from ckptd.cli.output import Column, json_option, print_json, print_table, store_option, waiting
from ckptd.client import new_ask
from ckptd.doctor.budget import seconds_text
from ckptd.drill.phases import LEAVING, Phase, Verdict, judge, phases_of
from ckptd.drill.play import Drill, Heard, refuse
from ckptd.drill.rehearsal import SOURCES, Rehearsal, rehearse
from ckptd.errors import UsageError
from ckptd.settings import parse_duration

COLUMNS = (
    Column("PHASE"), Column("AFTER", right=True), Column("TOOK", right=True),
    Column("OF THE TIME", right=True), Column("LEFT", right=True),
)  # fmt: skip


@click.command("drill")
@click.argument("source", type=click.Choice(SOURCES), metavar="SOURCE")
@click.argument("job", required=False)
@store_option
@click.option(
    "--in",
    "lead",
    metavar="TIME",
    help="How long before the end the notice comes.  [default: as SOURCE does]",
)
@click.option(
    "--grace", metavar="TIME", help="Measure against this, where something else ends the job before that."
)
@click.option("--leave", is_flag=True, help="To the end: save, exit 75. Else it is started again at once.")
@json_option
def drill(
    source: str, job: str | None, store: Path | None, lead: str | None, grace: str | None, leave: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Play a notice of SOURCE to JOB, as it runs, and measure each phase against the time that there is.

    SOURCE: aws, gcp, gke, azure, kubernetes, slurm, systemd, logind, or sigterm, which is a real signal. The job
    is saved, started again and goes on: nothing is lost, and it isn't ended for being late. The exit status is
    0 if it was saved in time, else 1.
    """
    _, found = one_job(store, job)
    with reach_job(found) as reached:
        facts = reached.ask(control.Look(new_ask()))
        played = rehearse(source, _seconds("--in", lead), _seconds("--grace", grace), facts["grace"], leave)
        refuse(facts, leave)
        exercise = Drill(reached, facts, played, _show(as_json))
        with waiting(f"a drill of {played.title} for {found.name}"):
            heard = exercise.play()
    phases = phases_of(heard, exercise.begun)
    verdict = judge(heard, phases, played, bool((facts.get("extra") or {}).get("remote")))
    if as_json:
        print_json(_as_map(facts, played, phases, verdict))
    else:
        _print(facts, played, phases, verdict)
    return 0 if verdict.holds else 1


def _seconds(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    seconds = parse_duration(text)
    if seconds <= 0:
        raise UsageError(f"{flag} {text}: must be more than nothing")
    return seconds


def _show(quiet: bool) -> Any:
    """On a terminal each of the news is shown as it comes."""
    shown = sys.stderr.isatty() and not quiet

    def show(heard: Heard) -> None:
        if shown:
            click.echo(f"{heard.name} ...", err=True)

    return show


def _print(facts: dict[str, Any], played: Rehearsal, phases: list[Phase], verdict: Verdict) -> None:
    end = "which then ends" if played.leave else "which goes on behind it"
    click.echo(
        f"{played.title}, {seconds_text(played.deadline)}, to job {facts['name']} ({facts['id']}), {end}\n"
    )
    print_table(COLUMNS, [_cells(phase, played.deadline) for phase in phases])
    click.echo()
    if verdict.saved_step is not None:
        back = f", resumed at step {verdict.resumed_step}" if verdict.resumed_step is not None else ""
        click.echo(f"saved step {verdict.saved_step}{back}")
    click.echo(verdict.text)
    if verdict.mend:
        click.echo(f"  {verdict.mend}")


def _cells(phase: Phase, deadline: float) -> list[str]:
    cells = [phase.name, f"{phase.after:.2f} s", f"{phase.took:.2f} s"]
    if phase.name not in LEAVING:
        return [*cells, "", ""]
    return [*cells, f"{phase.after / deadline:.0%}", f"{deadline - phase.after:.2f} s"]


def _as_map(
    facts: dict[str, Any], played: Rehearsal, phases: list[Phase], verdict: Verdict
) -> dict[str, Any]:
    shares = [
        {"share": phase.after / played.deadline, "left": played.deadline - phase.after}
        if phase.name in LEAVING
        else {"share": None, "left": None}
        for phase in phases
    ]
    return {
        "job": facts["id"], "name": facts["name"], "source": played.source, "told": played.told,
        "deadline": played.deadline, "leave": played.leave, **asdict(verdict),
        "phases": [{**asdict(phase), **share} for phase, share in zip(phases, shares, strict=True)],
    }  # fmt: skip

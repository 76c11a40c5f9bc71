"""``ckptd status``: how one job stands, and what a failure now would cost."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from ckptd import states
from ckptd.cli.live import ask_live, live_lines
from ckptd.cli.one import one_job
from ckptd.cli.output import json_option, printable, store_option
from ckptd.daemon.table import JobRow, row_of
from ckptd.store.quantity import ago_text
from ckptd.store.selection import Job


@dataclass(frozen=True)
class Cost:
    """What a failure at this moment would throw away. None: not known."""

    steps: int | None
    seconds: float | None
    """Since the newest checkpoint was taken, or since the job began if it has none."""


@click.command("status")
@click.argument("job", required=False)
@store_option
@json_option
def status(job: str | None, store: Path | None, as_json: bool) -> None:
    """Show how JOB stands (a name, or the beginning of an id; none needed if the store has but one)."""
    opened, found = one_job(store, job)
    row, extra = row_of(found.folder), _extra(found)
    live = ask_live(opened, found)
    now = time.time()
    if as_json:
        every = extra.get("every")
        told = {
            **asdict(row),
            "every": every,
            "cost": asdict(cost(row, extra, now)),
            "remote": extra.get("remote"),
            "live": asdict(live),
        }
        click.echo(json.dumps(told, indent=1))
        return
    for name, text in [*lines(row, extra, now), *live_lines(row, live)]:
        click.echo(f"{name + ':':<12}{printable(text)}")


def _extra(job: Job) -> dict[str, Any]:
    return job.record.extra if job.record is not None else {}


def cost(row: JobRow, extra: dict[str, Any], now: float) -> Cost:
    """What a failure at this moment would throw away."""
    if row.state not in states.LIVE:
        return Cost(0, 0.0)
    saved = extra.get("checkpoint_step")
    steps = row.step - saved if isinstance(saved, int) and row.step is not None else row.step
    since = row.checkpoint_at if row.checkpoint_at is not None else row.created
    return Cost(steps, now - since if since is not None else None)


def lines(row: JobRow, extra: dict[str, Any], now: float) -> list[tuple[str, str]]:
    """What is shown: names and texts."""
    found = [("job", f"{row.name or '-'} ({row.id})"), ("state", row.state or "damaged")]
    if row.why:
        found.append(("why", row.why))
    if row.step is not None:
        found.append(("step", str(row.step)))
    if row.pid is not None:
        found.append(("process", f"{row.pid}, attempt {row.attempt}, under ckptd {row.supervisor}"))
    if row.checkpoint and row.checkpoint_at is not None:
        found.append(("saved", f"checkpoint {row.checkpoint}, {ago_text(row.checkpoint_at, now)}"))
    else:
        found.append(("saved", "nothing yet"))
    every = extra.get("every")
    if isinstance(every, dict) and every.get("why"):
        found.append(("periodic", str(every["why"])))
    if row.state in states.LIVE:
        found.append(("a failure", _cost_text(cost(row, extra, now))))
    if row.note:
        found.append(("note", row.note))
    return found


def _cost_text(lost: Cost) -> str:
    if lost.seconds is None:
        return "now would cost an unknown part of the work"
    steps = f"{max(0, lost.steps)} steps, " if lost.steps is not None else ""
    return f"now would cost {steps}{max(0.0, lost.seconds):.0f} s of work"

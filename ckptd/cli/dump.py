"""``ckptd dump``: take a checkpoint of a running job now."""

from __future__ import annotations

from pathlib import Path

import click

from ckptd import control
from ckptd.cli.one import one_job, reach_job
from ckptd.cli.output import json_option, print_json, store_option, waiting
from ckptd.client import new_ask
from ckptd.store.quantity import bytes_text

PATIENCE = 3600.0
"""Seconds: a step, and a slow disk, may take long."""


@click.command("dump")
@click.argument("job", required=False)
@store_option
@json_option
def dump(job: str | None, store: Path | None, as_json: bool) -> int:
    """Save JOB at its next safe point, while it trains on; done when the checkpoint is durable."""
    _, found = one_job(store, job)
    with reach_job(found) as reached, waiting(f"saving {found.name}"):
        facts = reached.ask(control.Save(new_ask()), PATIENCE)
    if as_json:
        print_json(facts)
    else:
        click.echo(
            f"saved step {facts['step']} (checkpoint {facts['checkpoint']}, {bytes_text(facts['nbytes'])})"
        )
    return 0

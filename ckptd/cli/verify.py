"""``ckptd verify``: whether checkpoints are what their manifests say."""

from __future__ import annotations

from pathlib import Path

import click

from ckptd.cli.output import (
    Column,
    job_option,
    json_option,
    print_json,
    print_table,
    printable,
    progress,
    store_option,
)
from ckptd.errors import DamagedError
from ckptd.store.layout import default_store, open_store
from ckptd.store.selection import Chosen, checkpoints, choose, read_jobs, select_jobs
from ckptd.store.verify import Verdict, judge

COLUMNS = (
    Column("ID"), Column("JOB", gives=True), Column("STEP", right=True), Column("STATE"), Column("WHY", gives=True),
)  # fmt: skip


@click.command("verify")
@click.argument("wanted", nargs=-1, metavar="[CHECKPOINT]...")
@click.option("--read-data", is_flag=True, help="Read every byte and compare its hash.")
@job_option
@store_option
@json_option
def verify(
    wanted: tuple[str, ...], read_data: bool, job: str | None, store: Path | None, as_json: bool
) -> None:
    """Check checkpoints: all, or those named (the beginning of an id, or 'latest').

    Without --read-data: manifests, sizes, and what the files say of themselves. Exit status 13 if one is damaged.
    """
    opened = open_store(store or default_store(), create=False)
    chosen = (
        [choose(opened, each, job) for each in wanted]
        if wanted
        else checkpoints(select_jobs(read_jobs(opened), job, opened))
    )
    total = sum(each.entry.nbytes for each in chosen) if read_data else 0
    with progress("verifying", total) as advance:
        verdicts = [judge(each.entry.path, data=read_data, progress=advance) for each in chosen]
    _report(chosen, verdicts, as_json)
    damaged = sum(not verdict.ok for verdict in verdicts)
    if damaged:
        them = "is" if damaged == 1 else "are"
        raise DamagedError(
            f"{damaged} of {len(verdicts)} checkpoints {them} damaged: a resume takes an older one by itself"
        )


def _report(chosen: list[Chosen], verdicts: list[Verdict], as_json: bool) -> None:
    if as_json:
        rows = [
            {"id": each.entry.id, "job": each.job.folder.id, "job_name": each.job.name, "step": each.entry.step,
             "path": str(each.entry.path), "ok": verdict.ok, "state": verdict.state, "why": verdict.why or None}
            for each, verdict in zip(chosen, verdicts, strict=True)
        ]  # fmt: skip
        print_json(rows)
    elif chosen:
        cells = [
            [each.entry.id, each.job.name, str(each.entry.step), verdict.state, verdict.why]
            for each, verdict in zip(chosen, verdicts, strict=True)
        ]
        print_table(COLUMNS, cells, [not verdict.ok for verdict in verdicts])
    else:
        click.echo(printable("there are no checkpoints"))

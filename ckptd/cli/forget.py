"""``ckptd forget``: remove checkpoints by a policy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from ckptd.cli.keep import keep_options, policy_of
from ckptd.cli.output import Column, json_option, print_json, print_table, progress, store_option
from ckptd.errors import UsageError
from ckptd.store import removal
from ckptd.store.layout import default_store, open_store
from ckptd.store.quantity import ago_text, bytes_text
from ckptd.store.removal import Removed
from ckptd.store.retention import Policy, Verdict
from ckptd.store.selection import Job, read_jobs, select_jobs
from ckptd.store.verify import verify_checkpoint

COLUMNS = (
    Column("ID"), Column("JOB", gives=True), Column("STEP", right=True), Column("WHEN"),
    Column("NEW", right=True), Column("DONE"), Column("WHY", gives=True),
)  # fmt: skip


@click.command("forget")
@click.argument("job", required=False)
@keep_options
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would go.")
@store_option
@json_option
def forget(job: str | None, dry_run: bool, store: Path | None, as_json: bool, **keep: Any) -> None:
    """Remove the checkpoints that no --keep flag keeps, of JOB or of each job.

    Always stay: the newest that is whole (it is read to be sure), pinned ones, and those that are being read.
    """
    policy = policy_of(**keep)
    if policy.empty:
        raise UsageError(
            "no policy was given, nothing is removed: say what is to stay, such as --keep-last 3"
        )
    opened = open_store(store or default_store(), create=False)
    rows: list[dict[str, Any]] = []
    planned = [
        (each, removal.plan(each.folder, policy)) for each in select_jobs(read_jobs(opened), job, opened)
    ]
    _check_words(policy, [verdict for _, verdicts in planned for verdict in verdicts])
    for each, verdicts in planned:
        done = Removed() if dry_run else _apply(each, policy, verdicts)
        rows += [_row(each, verdict, done, dry_run) for verdict in verdicts]
    if as_json:
        print_json(rows)
        return
    now = time.time()
    if rows:
        print_table(COLUMNS, [_cells(row, now) for row in rows])
    gone = [row for row in rows if row["done"] in ("removed", "would go")]
    freed = sum(row["freed"] for row in gone)
    words = "would be removed" if dry_run else "removed"
    click.echo(f"{len(gone)} of {len(rows)} {words}" + (f", {bytes_text(freed)} freed" if freed else ""))


def _check_words(policy: Policy, verdicts: list[Verdict]) -> None:
    """Raise UsageError where a rule keeps nothing because of a slip of the pen, and something would go."""
    if all(verdict.keep for verdict in verdicts):
        return
    known = sorted({name for verdict in verdicts for name in verdict.entry.figures})
    for best in policy.best:
        if best.metric not in known:
            raise UsageError(
                f"--keep-best {best.count}:{best.metric}: no checkpoint has such a figure, nothing is removed; "
                f"they have {', '.join(known) or 'none'}"
            )
    tagged = any(why.startswith("tagged ") for verdict in verdicts for why in verdict.why)
    if policy == Policy(tags=policy.tags) and not tagged:
        raise UsageError(
            f"no checkpoint is tagged {' or '.join(policy.tags)}, and no other rule is given: nothing is removed"
        )


def _apply(job: Job, policy: Policy, verdicts: list[Verdict]) -> Removed:
    if all(verdict.keep for verdict in verdicts):
        return Removed()
    newest = [verdict.entry for verdict in verdicts]
    with progress("reading the newest", newest[-1].nbytes) as advance:
        whole = removal.newest_whole(newest, lambda path: verify_checkpoint(path, progress=advance))
    return removal.forget(job.folder, policy, verdicts, whole)


def _row(job: Job, verdict: Verdict, done: Removed, dry_run: bool) -> dict[str, Any]:
    entry = verdict.entry
    what = (
        "kept"
        if verdict.keep
        else "would go"
        if dry_run
        else "removed"
        if entry.path in done.gone
        else "kept"
    )
    why = ", ".join(verdict.why) if verdict.keep else verdict.gone
    if what == "kept" and not verdict.keep:
        why = (
            "it is being read"
            if entry.path in done.held
            else "pinned meanwhile"
            if entry.path in done.marked
            else "the newest that is whole"
        )
    return {
        "id": entry.id, "job": job.folder.id, "job_name": job.name, "step": entry.step, "created": entry.created,
        "new_nbytes": entry.new_nbytes, "done": what, "why": why, "freed": done.freed.get(entry.path, 0),
    }  # fmt: skip


def _cells(row: dict[str, Any], now: float) -> list[str]:
    return [
        row["id"], row["job_name"], str(row["step"]), ago_text(row["created"], now), bytes_text(row["new_nbytes"]),
        row["done"], row["why"],
    ]  # fmt: skip

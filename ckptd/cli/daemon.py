"""``ckptd daemon``: keep the jobs of a store running on this host."""

from __future__ import annotations

from pathlib import Path

import click

from ckptd.cli.install import install, uninstall
from ckptd.cli.output import json_option, print_json, printable, store_option
from ckptd.cli.watched import log_format_option, metrics_option
from ckptd.store.layout import default_store, open_store


@click.group("daemon", invoke_without_command=True)
@store_option
@click.option(
    "--notices",
    envvar="CKPTD_NOTICES",
    default="auto",
    show_default=True,
    metavar="SOURCES",
    help="Who is listened to for notices, in the place of all jobs: as ckptd run --notices.",
)
@click.option(
    "--azure-ack",
    envvar="CKPTD_AZURE_ACK",
    is_flag=True,
    help="Tell Azure that it may go ahead once all jobs are saved (for all machines that the event names).",
)
@log_format_option
@metrics_option
@click.option("-q", "--quiet", envvar="CKPTD_QUIET", is_flag=True, help="Say nothing but errors.")
@click.option("-v", "--verbose", envvar="CKPTD_VERBOSE", is_flag=True, help="Say more.")
@click.pass_context
def daemon(
    context: click.Context, store: Path | None, notices: str, azure_ack: bool, log_format: str,
    metrics_port: int | None, quiet: bool,
    verbose: bool,
) -> int | None:  # fmt: skip
    """Keep the jobs of a store running: those of ckptd run --detach, over reboots too.

    SIGTERM saves and stops all jobs; the next start takes them up again. SIGHUP starts the daemon itself anew and
    leaves them alone, as does its death.
    """
    if context.invoked_subcommand is not None:
        context.obj = store
        return None
    from ckptd.host.start import run_daemon

    return run_daemon(
        store or default_store(),
        notices,
        -1 if quiet else int(verbose),
        azure_ack=azure_ack,
        log_format=log_format,
        metrics_port=metrics_port,
    )


@daemon.command("status")
@store_option
@json_option
@click.pass_context
def status(context: click.Context, store: Path | None, as_json: bool) -> int:
    """Show whether the daemon runs, and how its sources of notices fare."""
    from ckptd import control
    from ckptd.client import new_ask
    from ckptd.host.place import reach_daemon

    opened = open_store(store or context.obj or default_store(), create=False)
    with reach_daemon(opened) as reached:
        facts = reached.ask(control.Look(new_ask()))
    if as_json:
        print_json(facts)
        return 0
    click.echo(
        f"daemon of {printable(str(opened.path))}: process {facts['pid']}, jobs that run: {len(facts['jobs'])}"
    )
    for source in facts["notices"]:
        trouble = f": {printable(source['text'])}" if source["text"] else ""
        click.echo(f"notices of {source['source']}: {source['state']}{trouble}")
    for notice in facts["standing"]:
        click.echo(f"notice: {printable(notice['text'])}")
    return 0


daemon.add_command(install)
daemon.add_command(uninstall)

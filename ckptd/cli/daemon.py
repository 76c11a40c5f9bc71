"""``ckptd daemon``: keep the jobs of a store running on this host."""

from __future__ import annotations

from pathlib import Path

import click

from ckptd.cli.install import install, uninstall
from ckptd.cli.output import json_option, print_json, printable, store_option
from ckptd.cli.watched import (
    log_format_option,
    metrics_option,
    notices_options,
    verbosity_of,
    voice_options,
)
from ckptd.errors import UsageError
from ckptd.store.layout import default_store, open_store

keys_option = click.option(
    "--keys",
    envvar="CKPTD_KEYS",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where the keys are that ckptd daemon keys has made.",
)


@click.group("daemon", invoke_without_command=True)
@store_option
@notices_options
@click.option(
    "--listen",
    "address",
    envvar="CKPTD_LISTEN",
    default="",
    metavar="tcp://HOST:PORT",
    help="Answer clients on other machines too, those whose keys are in --keys.",
)
@keys_option
@log_format_option
@metrics_option
@voice_options
@click.pass_context
def daemon(
    context: click.Context, store: Path | None, notices: str, azure_ack: bool, address: str,
    keys: Path | None, log_format: str, metrics_port: int | None, quiet: bool, verbose: bool,
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
        verbosity_of(quiet=quiet, verbose=verbose),
        azure_ack=azure_ack,
        log_format=log_format,
        metrics_port=metrics_port,
        address=address,
        keys=keys,
    )


@daemon.command("status")
@store_option
@click.option(
    "--daemon",
    "address",
    envvar="CKPTD_DAEMON",
    default="",
    metavar="tcp://HOST:PORT",
    help="Ask the daemon of another machine, with the keys in --keys.",
)
@keys_option
@json_option
@click.pass_context
def status(context: click.Context, store: Path | None, address: str, keys: Path | None, as_json: bool) -> int:
    """Show whether the daemon runs, and how its sources of notices fare."""
    from ckptd import control
    from ckptd.client import new_ask

    if address:
        from ckptd.host.far import reach_far

        whose, reached = address, reach_far(address, keys)
    else:
        from ckptd.host.place import reach_daemon

        opened = open_store(store or context.obj or default_store(), create=False)
        whose, reached = str(opened.path), reach_daemon(opened)
    with reached:
        facts = reached.ask(control.Look(new_ask()))
    if as_json:
        print_json(facts)
        return 0
    click.echo(f"daemon of {printable(whose)}: process {facts['pid']}, jobs that run: {len(facts['jobs'])}")
    for source in facts["notices"]:
        trouble = f": {printable(source['text'])}" if source["text"] else ""
        click.echo(f"notices of {source['source']}: {source['state']}{trouble}")
    for notice in facts["standing"]:
        click.echo(f"notice: {printable(notice['text'])}")
    return 0


@daemon.command("keys")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--client", metavar="NAME", help="Make a client's keys too, in FOLDER/for-NAME, and let it in.")
def make_keys(folder: Path, client: str | None) -> None:
    """Make the keys in FOLDER that ckptd daemon --listen needs.

    Bring FOLDER/for-NAME to the client's machine by a safe way, and remove it here: that is its --keys. Removing
    FOLDER/clients/NAME.public shuts the client out.
    """
    from ckptd.host.keys import make_client_keys, make_daemon_keys

    if make_daemon_keys(folder):
        click.echo(f"made the daemon's keys in {printable(str(folder))}")
    elif client is None:
        raise UsageError(f"{folder} has the daemon's keys already: --client NAME makes those of a client")
    if client is not None:
        made = make_client_keys(folder, client)
        click.echo(
            f"made keys for {client} in {printable(str(made))}: bring them there, and remove them here"
        )


daemon.add_command(install)
daemon.add_command(uninstall)

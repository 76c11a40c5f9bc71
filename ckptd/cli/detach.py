"""``ckptd run --detach``: an order to the daemon instead of a run here."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from ckptd import control
from ckptd.client import new_ask
from ckptd.daemon import launch
from ckptd.daemon.names import identify
from ckptd.errors import LockedError, NoDaemonError
from ckptd.host.daemon import START_SECONDS
from ckptd.host.order import Order, save_order
from ckptd.host.place import reach_daemon
from ckptd.settings import Settings
from ckptd.store.layout import default_store, open_store
from ckptd.store.lock import holder

ONCE = ("--fresh", "--from", "--allow-changed")
"""Flags of one start: the next one, behind a reboot, is to go on from what this one has saved."""
_HERE = ("detach", "store", "command")


def detach_job(argv: Sequence[str], settings: Settings, store: Path | None) -> int:
    """Order a command, and wait until it runs. Raises CkptdError."""
    opened = open_store(store or default_store())
    daemon = reach_daemon(opened)
    with daemon:
        launch.resolve(argv)
        identity = identify(argv, os.getcwd(), settings.name)
        folder = opened.job(identity.id)
        owner = holder(folder)
        if owner is not None:
            raise LockedError(f"job {identity.name} ({identity.id}) runs already, under process {owner.pid}")
        order = new_order(identity.id, list(argv), given_options())
        save_order(folder, order)
        try:
            daemon.ask(control.Start(new_ask(), identity.id), START_SECONDS + 5)
        except NoDaemonError as error:
            raise NoDaemonError(
                f"{error}. The order stands: job {identity.id} starts when there is a daemon again, unless "
                f"ckptd stop {identity.id} takes it back"
            ) from error
        save_order(folder, replace(order, options=lasting(order.options)))
    click.echo(f"{identity.id}  {identity.name} runs: ckptd logs -f {identity.id}, ckptd stop {identity.id}")
    return 0


def new_order(job: str, argv: list[str], options: list[str]) -> Order:
    """An order with the environment, folder and umask of this process."""
    umask = os.umask(0o077)
    os.umask(umask)
    return Order(
        job=job, argv=argv, cwd=os.getcwd(), env=dict(os.environ), options=options, umask=umask,
        python=sys.executable, host=os.uname().nodename, made=time.time(),
    )  # fmt: skip


def given_options() -> list[str]:
    """The flags of ``ckptd run`` as they were given on the command line; those of the environment go with that."""
    context = click.get_current_context()
    words: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in _HERE or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        flag, value = parameter.opts[0], context.params[name]
        if isinstance(parameter, click.Option) and parameter.is_flag:
            words.extend([flag] if value else [parameter.secondary_opts[0]])
        elif parameter.multiple:
            for each in value:
                words.extend([flag, str(each)])
        else:
            words.extend([flag, str(value)])
    return words


def lasting(options: Sequence[str]) -> list[str]:
    """The flags without those that are for one start only."""
    words, kept = iter(options), []
    for word in words:
        if word not in ONCE:
            kept.append(word)
        elif word == "--from":
            next(words, None)
    return kept

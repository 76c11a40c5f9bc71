"""``ckptd daemon``: from a store to a daemon at work, and everything put away after it."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ckptd.daemon.forms import choose_form
from ckptd.daemon.loop import Signals
from ckptd.daemon.notify import Notifier
from ckptd.daemon.places import Place
from ckptd.daemon.server import Server
from ckptd.daemon.voice import STDERR, Voice
from ckptd.errors import LockedError, NoStoreError
from ckptd.host.daemon import HANDLED, Daemon, describe
from ckptd.host.place import announce, find_daemon, key_of, retract
from ckptd.metrics import export
from ckptd.store import disk
from ckptd.store.layout import open_store

if TYPE_CHECKING:
    from ckptd.host.far import FarServer


def run_daemon(
    store: Path,
    notices: str,
    verbosity: int,
    *,
    azure_ack: bool = False,
    log_format: str = "plain",
    metrics_port: int | None = None,
    address: str = "",
    keys: Path | None = None,
) -> int:
    """Keep the jobs of a store running until told to end; returns the exit status. Raises CkptdError."""
    opened = open_store(store)
    voice = Voice(verbosity, STDERR, choose_form(log_format, STDERR, os.environ, kept=True))
    with ExitStack() as stack:
        place = _place(opened.path)
        stack.callback(place.close)
        exporter = None
        if metrics_port is not None:
            exporter = export(metrics_port, opened, others=True)
            stack.callback(exporter.close)
            voice.say(f"figures at {exporter.url}", "figures", url=exporter.url)
        server = Server(place)
        stack.callback(server.close)
        far = _listen_far(address, keys)
        signals = stack.enter_context(Signals(HANDLED))
        notifier = Notifier()
        daemon = Daemon(opened, server, signals, voice, notices, notifier, azure_ack, exporter)
        if far is not None:
            stack.callback(far.close)
            far.admit(daemon.loop)
            daemon.serve(far)
            voice.say(
                f"clients whose key is in {keys} are served at {far.address}", "far", address=far.address
            )
        try:
            announce(opened, describe(opened.path, place.endpoint))
        except OSError as error:
            raise NoStoreError(f"can't write in {opened.path}: {disk.reason(error)}") from error
        stack.callback(retract, opened)
        voice.say(f"daemon of {opened.path} is process {os.getpid()}")
        daemon.run()
        if daemon.renew:
            notifier.reloading()
    if daemon.renew:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return 0


def _listen_far(address: str, keys: Path | None) -> FarServer | None:
    """The socket for other machines, if there is to be one. Raises CkptdError."""
    if not address:
        return None
    from ckptd.host.far import FarServer

    return FarServer(address, keys)


def _place(store: Path) -> Place:
    try:
        return Place(key_of(store))
    except LockedError:
        found = find_daemon(open_store(store, create=False))
        pid = f" (process {found['pid']})" if found else ""
        raise LockedError(
            f"the store {store} has a daemon already{pid}: stop that one first, or name another store"
        ) from None

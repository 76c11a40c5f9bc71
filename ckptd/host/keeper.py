"""The ckptd of one job, as the daemon starts it: a ``ckptd run`` of its own, in a session of its own.

It needs the daemon for nothing: killed with SIGKILL, upgraded or restarted, the daemon leaves its jobs alone, and
finds them again by the locks that they hold.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from io import FileIO
from pathlib import Path

from ckptd.daemon.notify import without_manager
from ckptd.daemon.openfiles import as_given
from ckptd.daemon.places import RUNTIME, runtime_folder
from ckptd.daemon.scope import wrap
from ckptd.errors import CkptdError
from ckptd.host.order import LOG, OUTPUT, Order
from ckptd.settings import KEPT
from ckptd.store import disk
from ckptd.store.layout import JobFolder

_BOOT = "import sys; sys.path[:] = filter(None, sys.path); from ckptd.cli.main import main; sys.exit(main())"
"""As the command ckptd: without the working folder in sys.path, which may hold a module of any name."""


def start_keeper(folder: JobFolder, order: Order, store: Path) -> int:
    """Start the ckptd of a job; returns its process id. Raises CkptdError: what it needs isn't there any more."""
    argv = [order.python or sys.executable, "-c", _BOOT, "run", *order.options, "--store", str(store)]
    folder.make()
    with _append(folder.path / OUTPUT) as output, _append(folder.path / LOG) as log, as_given():
        env = keeper_environment(order.env, log.fileno())
        try:
            process = subprocess.Popen(
                wrap([*argv, "--", *order.argv], order.job, user=os.geteuid() != 0, env=env),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=order.cwd, env=env,
                umask=order.umask, pass_fds=[log.fileno()], start_new_session=True,
                restore_signals=True,
            )  # fmt: skip
        except OSError as error:
            what = error.filename or order.cwd
            raise CkptdError(f"job {order.job} can't be started: {what}: {disk.reason(error)}") from error
    process.returncode = 0  # its end is seen by a pidfd: subprocess need not wait for it, nor warn
    return process.pid


def keeper_environment(env: Mapping[str, str], log: int) -> dict[str, str]:
    """The user's environment as it was given, without what belongs to the daemon's own service manager."""
    return {**without_manager(env), KEPT: str(log), RUNTIME: str(runtime_folder())}


def _append(path: Path) -> FileIO:
    try:
        return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")
    except OSError as error:
        raise CkptdError(f"can't write {path}: {disk.reason(error)}") from error

"""A scope of its own for a job that the daemon starts, where systemd is there to make one.

What runs in the daemon's own unit ends with it: a stop or a crash of the daemon would take every job along. In a
scope a job has a cgroup and a life of its own. The scope is ordered before the daemon's unit, and therefore
stopped behind it: at a shutdown the daemon saves its jobs before anything else tells them to end.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

DAEMON_UNIT = "ckptd.service"
STOP_SECONDS = 90
"""How long a stop of the scope itself may take; at a shutdown the daemon has stopped the job by then."""
_RUNTIME = "XDG_RUNTIME_DIR"
_BOOTED = Path("/run/systemd/system")
_SYSTEM = Path("/run/systemd/private")
_ASK_SECONDS = 5.0
_LITERAL_SINCE = 254
"""The first systemd-run that can expand variables in the command, and has a flag against it."""


def wrap(argv: Sequence[str], job_id: str, user: bool, env: Mapping[str, str] | None = None) -> list[str]:
    """The command that runs ``argv`` in a new scope; ``argv`` itself where that can't be had.

    The scope is ``ckptd-job-ID-XXXXXX.scope``: a job that is started again doesn't meet the scope that is just
    ending. It is started by exec: process id, folder, environment and descriptors are those of ``argv`` alone.

    Args:
        job_id: the job's id; other than letters, digits, '.', '_' and '-' become '_'.
        user: ask the user's own manager instead of the system's.
        env: the environment that the command will be given, if that is not this process's: the user's own manager is
            found by this one's XDG_RUNTIME_DIR all the same, and ``argv`` gets its own.
    """
    systemd_run = shutil.which("systemd-run")
    if systemd_run is None or not under_systemd() or not _reachable(user):
        return list(argv)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", job_id)
    command = [
        systemd_run, *(["--user"] if user else []), "--scope", "--quiet", "--collect",
        f"--unit=ckptd-job-{name}-{os.urandom(3).hex()}.scope",
        f"--description=ckptd job {name}",
        f"--property=Before={DAEMON_UNIT}",
        f"--property=TimeoutStopSec={STOP_SECONDS}s",
        "--property=Delegate=yes",  # for the program's own cgroup in it: ckptd.daemon.cell
        *([] if user else ["--slice=ckptd.slice"]),
    ]  # fmt: skip
    if any("$" in word for word in argv) and _version(systemd_run) >= _LITERAL_SINCE:
        command.append("--expand-environment=no")
    if user and env is not None and env.get(_RUNTIME) != os.environ[_RUNTIME]:
        theirs = [f"{_RUNTIME}={env[_RUNTIME]}"] if _RUNTIME in env else ["-u", _RUNTIME]
        return [
            "/usr/bin/env",
            f"{_RUNTIME}={os.environ[_RUNTIME]}",
            *command,
            "--",
            "/usr/bin/env",
            *theirs,
            *argv,
        ]
    return [*command, "--", *argv]


def under_systemd(cgroups: Path = Path("/proc/self/cgroup"), booted: Path = _BOOTED) -> bool:
    """systemd is process 1 of this machine, and this process runs in one of its units."""
    if not booted.is_dir():
        return False
    try:
        lines = cgroups.read_text().splitlines()
    except OSError:
        return False
    paths = [line.split(":", 2)[2] for line in lines if line.startswith("0::") or ":name=systemd:" in line]
    return any(part.endswith((".service", ".scope")) for path in paths for part in path.split("/"))


def _reachable(user: bool) -> bool:
    """The manager answers at its private socket, which is there for root and for the user of a manager."""
    if user:
        runtime = os.environ.get(_RUNTIME, "")
        path = Path(runtime) / "systemd" / "private"
        if not runtime.startswith("/"):
            return False
    elif os.geteuid() != 0:
        return False
    else:
        path = _SYSTEM
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_ASK_SECONDS)
        try:
            asking.connect(os.fsencode(path))
        except OSError:
            return False
    return True


def _version(systemd_run: str) -> int:
    """252 of 'systemd 252 (252.38-1~deb12u1)'; 0 if it doesn't say."""
    try:
        said = subprocess.run(
            [systemd_run, "--version"], capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(r"systemd (\d+)", said.stdout)
    return int(found[1]) if found else 0

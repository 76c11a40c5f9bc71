"""What a service manager is told: sd_notify(3) and sd_watchdog_enabled(3), each message one datagram.

Nothing here raises, and nothing happens where no manager listens: a message that can't be sent changes nothing
for the job.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

_PLAIN_MAX = 1500
"""Bytes of a status; longer ones are cut."""
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What a manager says in the environment of its service."""


class Notifier:
    """The service manager that started this process, if there is one and it wants to be told."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        """``env``: where the manager says how it is reached; this process's if None."""
        found = os.environ if env is None else env
        self._address = _address(found.get("NOTIFY_SOCKET", "")) if _addressed(found) else b""
        self.watchdog_seconds = watchdog_seconds(found) if self._address else 0.0
        """How often it must hear from us at least; 0: it doesn't watch."""

    @property
    def listens(self) -> bool:
        """There is one to be told."""
        return bool(self._address)

    def ready(self) -> bool:
        """The service is up (or, behind ``reloading``, is up again)."""
        return self.send("READY=1")

    def reloading(self) -> bool:
        """The service reads its settings anew, or starts itself anew in place; ``ready`` ends that."""
        return self.send(
            "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
        )

    def stopping(self) -> bool:
        """The service is ending. This can't be taken back: TimeoutStopSec runs from here."""
        return self.send("STOPPING=1")

    def status(self, text: str) -> bool:
        """One line for ``systemctl status``."""
        line = "".join(letter if letter.isprintable() else " " for letter in text)
        return self.send("STATUS=" + line.encode("utf-8", "replace")[:_PLAIN_MAX].decode("utf-8", "ignore"))

    def watchdog(self) -> bool:
        """Still alive."""
        return self.send("WATCHDOG=1")

    def extend(self, seconds: float) -> bool:
        """A start, a stop or a watchdog may take this long from now on. Never shortens what there is."""
        return self.send(f"EXTEND_TIMEOUT_USEC={max(int(seconds * 1e6), 1)}")

    def send(self, *lines: str) -> bool:
        """Lines NAME=VALUE in one datagram; whether it was taken. Doesn't wait for a manager that doesn't read."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendmsg(["\n".join(lines).encode()], [], socket.MSG_DONTWAIT, self._address)
        except OSError:
            return False
        return True


def _address(named: str) -> bytes:
    """Of NOTIFY_SOCKET, as the kernel takes it; b'' for what is none (vsock is for virtual machines' hosts)."""
    if named.startswith("@") and len(named) > 1:
        return b"\0" + os.fsencode(named[1:])
    return os.fsencode(named) if named.startswith("/") else b""


def _addressed(env: Mapping[str, str]) -> bool:
    """Whether this process is the one that the manager started, as far as it says so (systemd 248 and later).

    One further down inherits all that, and where the unit has NotifyAccess=all a READY=1 or STOPPING=1 of its own would
    be taken for the whole service's.
    """
    return env.get("SYSTEMD_EXEC_PID", "") in ("", str(os.getpid()))


def watchdog_seconds(env: Mapping[str, str]) -> float:
    """The period in which this very process must say that it lives; 0 where nobody waits for that.

    WATCHDOG_PID names whom the manager means: a process further down inherits the variables all the same.
    """
    usec, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdigit()) or pid not in ("", str(os.getpid())):
        return 0.0
    return int(usec) / 1e6


def without_manager(env: Mapping[str, str]) -> dict[str, str]:
    """An environment for what is no part of this service: a program in a scope of its own has another manager."""
    return {name: value for name, value in env.items() if name not in VARIABLES}

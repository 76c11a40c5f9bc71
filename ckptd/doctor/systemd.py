"""What systemd and logind allow the unit that runs the job.

Sources: systemd.service(5): TimeoutStopSec, Restart, RestartForceExitStatus; systemd.kill(5): KillMode,
SendSIGKILL; logind.conf(5) and org.freedesktop.login1(5): InhibitDelayMaxSec; sd_booted(3): /run/systemd/system
is there where systemd is process 1.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ckptd.doctor.findings import NOTES, WARNS, Finding
from ckptd.doctor.machine import Machine
from ckptd.doctor.notice import LOGIND, STOP, Notice
from ckptd.doctor.room import own_cgroups
from ckptd.errors import STOPPED, UsageError

_PROPERTIES = (
    "LoadState", "TimeoutStopUSec", "KillMode", "SendSIGKILL", "Restart", "RestartForceExitStatus", "Type",
    "ExecStart",
)  # fmt: skip
_A_JOBS = re.compile(r"(?!user@\d+\.service$).*\.service|(run-|ckptd).*\.scope")
"""Services, and scopes of systemd-run; not those of logins, terminals and containers."""
_EXTENDS = re.compile(r"ckptd (run|daemon)\b")
"""Of the command of a unit: systemd hears what such a main process says."""
_UNITS = {
    "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0,
    "month": 2629800.0, "y": 31557600.0,
}  # fmt: skip
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|min|month|s|h|d|w|y)?")
_LOGIND_DEFAULT = 5.0
_CONF_FOLDERS = ("/usr/lib/systemd", "/run/systemd", "/etc/systemd")


@dataclass(frozen=True)
class Unit:
    """A unit and what its manager says of it."""

    name: str
    user: bool
    """It is the user's own manager's."""
    properties: dict[str, str]

    def mend(self, line: str) -> str:
        """How it gets a line of its [Service] section. A scope has no main process, so it gives way to a service."""
        user = "--user " if self.user else ""
        if self.name.endswith(".scope"):
            return f"systemd-run {user}--pipe --property={line} ckptd run -- CMD"
        return f"systemctl {user}edit {self.name}: [Service] {line}"


def own_unit(machine: Machine) -> tuple[str, bool]:
    """(name of the service or scope that this process is in, it is the user's); ('', False) if in none.

    A login session is none: what is started by hand in one goes to another unit when it matters.
    """
    groups = own_cgroups(machine)
    path = groups.get("", "/")
    if path == "/":  # version 1 has a hierarchy of systemd's own
        path = groups.get("name=systemd", "/")
    words = [word for word in path.split("/") if word.endswith((".service", ".scope"))]
    if not words or not _A_JOBS.fullmatch(words[-1]):
        return "", False
    return words[-1], any(word.startswith("user@") for word in words)


def find_unit(machine: Machine, wanted: str) -> Unit | None:
    """The unit that the user names, else the one we are in; None if there is none. Raises UsageError."""
    name, user = (wanted, False) if wanted else own_unit(machine)
    if not name:
        return None
    if "." not in name:
        name += ".service"
    for of_user in (False, True) if wanted else (user,):
        manager = ["--user"] if of_user else []
        said = machine.ask("systemctl", *manager, "show", name, f"--property={','.join(_PROPERTIES)}")
        properties = dict(line.partition("=")[::2] for line in said.splitlines())
        if properties.get("LoadState") == "loaded":
            return Unit(name, of_user, properties)
    if wanted:
        raise UsageError(f"--unit {wanted}: systemd knows no such unit here: systemctl list-units shows them")
    return Unit(name, user, {})


def seconds_of(text: str) -> float | None:
    """Seconds of '1min 30s' or 'infinity', as systemd writes times; None if it is no time."""
    if text == "infinity":
        return math.inf
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts).replace(" ", "") != text.replace(" ", ""):
        return None
    return sum(float(part[1]) * _UNITS[part[2] or "s"] for part in parts)


def unit_notice(unit: Unit) -> list[Notice]:
    """How long a stop of the unit takes at most."""
    stop = seconds_of(unit.properties.get("TimeoutStopUSec", ""))
    if stop is None:
        return []
    if unit.properties.get("SendSIGKILL") == "no":
        stop = math.inf
    fact = f"TimeoutStopSec of {unit.name}"
    if unit.properties.get("Type", "").startswith("notify") and _EXTENDS.search(
        unit.properties.get("ExecStart", "")
    ):
        stop, fact = math.inf, f"{fact}, which ckptd has made longer while it saves (Type=notify)"
    return [Notice(STOP, stop, here=True, mend=unit.mend("TimeoutStopSec={need}"), fact=fact)]


def unit_findings(unit: Unit) -> list[Finding]:
    """What in the unit stands in the way, but for times."""
    if not unit.properties:
        text = f"this runs in {unit.name}, but systemctl doesn't answer: its timeouts are not known"
        return [Finding("systemd", WARNS, text)]
    found = []
    mode = unit.properties.get("KillMode", "")
    if mode == "control-group":
        text = (
            f"{unit.name} has KillMode=control-group: a stop signals every process at once; DataLoader workers outlive "
            "that, but other helpers of the program may end, and the job with them before it is saved"
        )
        found.append(Finding("KillMode", WARNS, text, unit.mend("KillMode=mixed")))
    elif mode in ("process", "none"):
        text = f"{unit.name} has KillMode={mode}: processes that hang are left running on the machine"
        found.append(Finding("KillMode", WARNS, text, unit.mend("KillMode=mixed")))
    again = f"{STOPPED}" in unit.properties.get("RestartForceExitStatus", "").split()
    if unit.name.endswith(".service") and not again and unit.properties.get("Restart") in ("no", ""):
        text = (
            f"{unit.name} is not started again after a checkpoint (exit status {STOPPED}) but by a reboot, if it is "
            "enabled, or by hand"
        )
        line = unit.mend(f"RestartForceExitStatus={STOPPED}")
        found.append(Finding("Restart", NOTES, text, line))
    return found


def logind_notice(machine: Machine) -> list[Notice]:
    """How long a shutdown waits for those who delay it; [] where systemd isn't process 1."""
    if not machine.has("/run/systemd/system"):
        return []
    said = machine.ask(
        "busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1",
        "org.freedesktop.login1.Manager", "InhibitDelayMaxUSec",
    ).split()  # fmt: skip
    if len(said) == 2 and said[1].isdigit():
        seconds, fact = int(said[1]) / 1e6, "InhibitDelayMaxUSec, as logind says"
    else:
        seconds, fact = _configured(machine)
    mend = "InhibitDelayMaxSec={need}   # in /etc/systemd/logind.conf"
    return [Notice(LOGIND, seconds, here=True, mend=mend, fact=fact, delays=True)]


def _configured(machine: Machine) -> tuple[float, str]:
    """InhibitDelayMaxSec by logind's files: drop-ins by name behind the main one, /etc before /run before /usr."""
    main = [f"{folder}/logind.conf" for folder in _CONF_FOLDERS]
    parts = {
        name: f"{folder}/logind.conf.d/{name}"
        for folder in _CONF_FOLDERS
        for name in machine.names(f"{folder}/logind.conf.d")
        if name.endswith(".conf")
    }
    seconds, fact = _LOGIND_DEFAULT, "logind's default"
    for name in [*main, *(parts[name] for name in sorted(parts))]:
        for line in machine.read(name).splitlines():
            key, _, value = line.partition("=")
            given = seconds_of(value.strip()) if key.strip() == "InhibitDelayMaxSec" else None
            if given is not None:
                seconds, fact = given, name
    return seconds, fact

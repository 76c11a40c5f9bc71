"""What a run of ``ckptd run`` is told to do, and how durations and intervals are written."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from ckptd.errors import UsageError

_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_STEPS = re.compile(r"(\d+)\s*(?:steps?)")
_UNFIT = frozenset({"KILL", "STOP", "CONT", "CHLD", "TSTP", "TTIN", "TTOU", "SEGV", "BUS", "FPE", "ILL"})
"""Signals that can't be a notice: they can't be caught, or mean something to job control or the CPU."""
_NOT_INSTRUMENTED = frozenset({"torch", "numpy", "ckptd", "ckptd_agent"})
"""What the engine is built on."""


KEPT = "CKPTD_KEPT"
"""Tells a ckptd that a daemon started it: the descriptor of its log."""
ON_NOTICE = ("auto", "late", "leave", "relaunch", "stay")
"""What may be done about a notice: see ckptd.daemon.notices."""

LOG_FORMATS = ("plain", "json")
"""How ckptd's own lines may look: see ckptd.daemon.forms."""


@dataclass(frozen=True)
class Every:
    """When periodic checkpoints are taken; both 0 and not ``chosen``: never."""

    seconds: float = 0.0
    steps: int = 0
    chosen: bool = False
    """By ckptd: see ckptd.daemon.interval."""


@dataclass(frozen=True)
class Settings:
    """The flags of ``ckptd run``, understood."""

    name: str = ""
    every: Every = Every()
    grace: float = 25.0
    """Seconds from a notice to the moment the process must be gone."""
    max_restarts: int = 3
    """Restarts after a death, without progress in between."""
    restart_delay: float = 1.0
    """Seconds before the first such restart; doubles each time."""
    notice_signals: tuple[int, ...] = (signal.SIGTERM,)
    fresh: bool = False
    allow_changed: bool = False
    from_step: int | None = None
    """Go on from the checkpoint at this step; None: from the newest."""
    squeeze: bool = False
    """Compress tensors where they get smaller."""
    verbosity: int = 0
    """-1 quiet, 0, 1 verbose."""
    log_format: str = "plain"
    """How ckptd's own lines look: one of LOG_FORMATS."""
    metrics_port: int | None = None
    """Where Prometheus finds figures, on loopback; 0: any port."""
    remote: str = ""
    """URL of a remote; '' for the one that the job was begun with, if any, 'none' for no more."""
    lease: float = 120.0
    """Seconds for which the job is taken at the remote; renewed in a third of that."""
    instrument: tuple[str, ...] = ()
    """Installed packages whose loops are followed as the program's own are."""
    remade: tuple[str, ...] = ()
    """Types whose objects tell nothing of their state, but always are as the program makes them."""
    notices: str = "auto"
    """Which sources are listened to: see ckptd.notices.choose."""
    on_notice: str = "auto"
    """One of ON_NOTICE."""
    azure_ack: bool = False
    """Tell Azure that it may go ahead, once the job is saved."""
    kept: bool = False
    """A daemon started this ckptd, and listens for notices in its place as long as it lives."""


def parse_duration(text: str) -> float:
    """Seconds of '25s', '10m', '1h30m', '1.5h' or a bare number of seconds; raises UsageError."""
    plain = text.strip().lower()
    total, end = 0.0, 0
    for match in _PART.finditer(plain):
        number, unit = match.groups()
        bare = not unit and match.start() == 0 and match.end() == len(plain)
        if match.start() != end or (unit not in _UNITS and not bare):
            break
        total += float(number) * _UNITS.get(unit, 1.0)
        end = match.end()
    if not plain or end != len(plain):
        raise UsageError(f"{text!r} is not a duration: write 25s, 10m or 1h30m")
    return total


def parse_every(text: str) -> Every:
    """'10m', '500steps', 'auto' or 'never'; raises UsageError."""
    word = text.strip().lower()
    if word in ("auto", "never"):
        return Every(chosen=word == "auto")
    match = _STEPS.fullmatch(word)
    every = Every(steps=int(match[1])) if match else Every(seconds=_interval(text))
    if not every.steps and every.seconds <= 0:
        raise UsageError(f"--every {text}: must be more than nothing")
    return every


def _interval(text: str) -> float:
    try:
        return parse_duration(text)
    except UsageError:
        raise UsageError(f"{text!r} is no interval: write 10m, 500steps, auto or never") from None


def parse_signals(text: str) -> tuple[int, ...]:
    """Signal numbers of 'TERM,USR2' (with or without SIG); raises UsageError."""
    numbers: list[int] = []
    for word in filter(None, (part.strip().upper() for part in text.split(","))):
        name = word.removeprefix("SIG")
        known = getattr(signal, f"SIG{name}", None)
        if not isinstance(known, signal.Signals) or name in _UNFIT:
            raise UsageError(f"{word!r} is no signal that can be a notice: write TERM or TERM,USR2")
        if known not in numbers:
            numbers.append(known)
    if not numbers:
        raise UsageError("--notice-signals is empty: write TERM or TERM,USR2")
    return tuple(int(number) for number in numbers)


def parse_packages(texts: Iterable[str]) -> tuple[str, ...]:
    """Names of packages or modules, as --instrument takes them (commas and blanks part them); raises UsageError."""
    names: dict[str, None] = {}
    for word in (word for text in texts for word in text.replace(",", " ").split()):
        top = word.partition(".")[0]
        if not all(part.isidentifier() for part in word.split(".")):
            raise UsageError(f"--instrument {word}: not the name of a package, as in --instrument lightning")
        if top in _NOT_INSTRUMENTED or top in sys.stdlib_module_names:
            raise UsageError(
                f"--instrument {word}: {top} can't be instrumented, name the package that holds the training loop"
            )
        names[word] = None
    return tuple(names)


def signal_name(number: int) -> str:
    """'SIGTERM' of 15; 'signal 99' of what has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

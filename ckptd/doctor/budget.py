"""Whether a job's state fits into the time that a notice leaves.

What a dump takes is reckoned from the rates measured here, in the order in which ckptd works: the wait for a safe
point (one step, where its length is known), the copy into shared memory (which is made ready ahead, up to a share of
the memory that is to be had), the hash and the write with its fsync, the upload. The parts are added up though some
overlap, and MARGIN is kept free, so that what is said to fit fits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ckptd.doctor.findings import LOSES, WARNS, Finding
from ckptd.doctor.notice import GRACE, Notice
from ckptd.doctor.rates import Rates
from ckptd.doctor.size import Size
from ckptd.store.quantity import bytes_text

MARGIN = 0.8
"""Of a notice's time this much may be used: another disk load, a slower step and the exit take the rest."""
COMPARED = (10**9, 4 * 10**9, 16 * 10**9, 64 * 10**9, 256 * 10**9)
"""Bytes, for the table that is shown where the size isn't known."""
FITS, TIGHT, TOO_LONG, UNKNOWN, NO_ROOM = "fits", "tight", "no", "-", "no room"


@dataclass(frozen=True)
class Need:
    """Seconds from a notice until the state is safe there; infinite: never; None: not measured."""

    memory: float | None
    disk: float | None
    remote: float | None


@dataclass(frozen=True)
class Verdict:
    """A notice beside a need; each one of FITS, TIGHT, TOO_LONG, UNKNOWN, NO_ROOM."""

    notice: Notice
    memory: str
    disk: str
    remote: str


def need_of(nbytes: int, rates: Rates, wait: float = 0.0, ready: int = 0) -> Need:
    """What a dump of so many bytes takes here.

    ``wait``: seconds until the next safe point; ``ready``: bytes up to which memory is made ready ahead.
    """
    memory = _after(wait, nbytes, rates.copy_again if nbytes <= ready else rates.copy)
    disk = _after(_after(memory, nbytes, rates.hash), nbytes, rates.disk)
    return Need(memory, disk, _after(disk, nbytes, rates.upload))


def need_of_spilled(nbytes: int, rates: Rates, wait: float = 0.0) -> Need:
    """The same where memory has no room for a copy: all of it goes to the disk while training stands still."""
    disk = _after(_after(wait, nbytes, rates.hash), nbytes, rates.disk)
    return Need(math.inf, disk, _after(disk, nbytes, rates.upload))


def without_disk(need: Need) -> Need:
    """A need where the disk has no room."""
    return Need(need.memory, math.inf, None if need.remote is None else math.inf)


def _after(begun: float | None, nbytes: int, rate: float) -> float | None:
    return begun + nbytes / rate if begun is not None and rate else None


def largest(seconds: float, rates: Rates, wait: float = 0.0, ready: int = 0) -> tuple[float, float]:
    """Bytes of the largest state that is safe (in memory, on disk) in that time, the margin kept; as for need_of."""
    left = max(0.0, MARGIN * seconds - wait)
    if not (rates.copy and rates.copy_again):
        return 0.0, 0.0
    rest = 1 / rates.hash + 1 / rates.disk if rates.hash and rates.disk else 0.0
    return (
        _largest(left, 1 / rates.copy, 1 / rates.copy_again, ready),
        _largest(left, 1 / rates.copy + rest, 1 / rates.copy_again + rest, ready) if rest else 0.0,
    )


def _largest(left: float, new: float, again: float, ready: int) -> float:
    """Seconds, and seconds a byte: of what is not made ready, and of what is."""
    return max(min(left / again, ready), left / new)


def judge(need: Need, notice: Notice) -> Verdict:
    """Whether there is time."""
    return Verdict(notice, *(_word(each, notice.seconds) for each in (need.memory, need.disk, need.remote)))


def _word(need: float | None, seconds: float) -> str:
    if need is None:
        return UNKNOWN
    if math.isinf(need):
        return NO_ROOM
    return FITS if need <= MARGIN * seconds else TIGHT if need <= seconds else TOO_LONG


def asked_for(need: float) -> int:
    """Whole seconds to ask for, so that the need fits with its margin; a multiple of 5."""
    return 5 * math.ceil(need / MARGIN / 5)


def time_findings(need: Need, size: Size, notices: Sequence[Notice], remote: bool) -> list[Finding]:
    """What of the time is too short, for the notices that may come here."""
    if need.disk is None or math.isinf(need.disk):
        return []  # not known; or there is no room, which is a finding of its own
    found = []
    for notice in notices:
        if notice.here:
            found += _too_short(need, need.disk, size, notice)
            if remote and notice.machine:
                found += _not_uploaded(need, size, notice)
    return found


def _too_short(need: Need, disk: float, size: Size, notice: Notice) -> list[Finding]:
    word = _word(disk, notice.seconds)
    if word == FITS:
        return []
    what = bytes_text(size.nbytes)
    line = notice.mend.format(need=asked_for(disk)) or "ckptd run --every 5m -- CMD"
    where = f" ({notice.fact})" if notice.fact else ""
    gives = f"{notice.name} gives {notice.seconds:.0f} s{where}"
    if notice.delays:
        text = f"{what} need {seconds_text(disk)} here, and a shutdown waits {notice.seconds:.0f} s{where} before it "
        return [Finding(notice.name, WARNS, text + "stops the job's unit, which then has its own time", line)]
    if word == TIGHT:
        text = f"{what} need {seconds_text(disk)} until they are on the disk, {gives}: that is tight"
        return [Finding(notice.name, WARNS, text, line)]
    text = f"{what} need {seconds_text(disk)} until they are on the disk, {gives}"
    if need.memory is not None and _word(need.memory, notice.seconds) == FITS and not notice.machine:
        text += f"; in memory they are safe after {seconds_text(need.memory)}, if only the job is killed"
    return [Finding(notice.name, LOSES, text, line)]


def _not_uploaded(need: Need, size: Size, notice: Notice) -> list[Finding]:
    if need.remote is None or need.remote <= MARGIN * notice.seconds:
        return []
    text = (
        f"{bytes_text(size.nbytes)} need {seconds_text(need.remote)} until they are at the remote, {notice.name} gives "
        f"{notice.seconds:.0f} s: if the disk goes with the machine, an older checkpoint is gone on from"
    )
    return [
        Finding(f"{notice.name}, remote", WARNS, text, "ckptd run --every 5m -- CMD, so that little is left")
    ]


def grace_findings(notices: Sequence[Notice]) -> list[Finding]:
    """Whether ckptd is told more time than it has."""
    own = next((notice for notice in notices if notice.name == GRACE), None)
    others = [each for each in notices if each.here and each.name != GRACE and not each.delays]
    if own is None or not others:
        return []
    shortest = min(others, key=lambda each: each.seconds)
    if shortest.seconds >= own.seconds:
        return []
    text = (
        f"ckptd is told that it has {own.seconds:.0f} s, but {shortest.name} gives {shortest.seconds:.0f} s"
        f"{f' ({shortest.fact})' if shortest.fact else ''}: it would still wait when it is killed"
    )
    line = f"ckptd run --grace {max(1, int(shortest.seconds - 1))}s -- CMD"
    return [Finding("grace", WARNS, text, line)]


def seconds_text(seconds: float | None) -> str:
    """'0.2 s', '31 s', '4 min', '3 h'; '-' for what isn't known, 'never' for no end."""
    if seconds is None:
        return "-"
    if math.isinf(seconds):
        return "no end"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 299.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"

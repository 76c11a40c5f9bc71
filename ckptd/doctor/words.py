"""A report in sentences and rows, for people."""

from __future__ import annotations

import math

from ckptd.doctor.budget import COMPARED, FITS, TIGHT, TOO_LONG, largest, need_of, seconds_text
from ckptd.doctor.findings import WARNS, Finding
from ckptd.doctor.report import Report
from ckptd.doctor.size import size_text
from ckptd.store.quantity import bytes_text

Table = tuple[list[str], list[list[str]]]
"""Headings, and rows of cells."""


def figures(report: Report, remote: str) -> list[tuple[str, str]]:
    """What was measured and seen: names, and what is said of each."""
    rates, room = report.rates, report.room
    threads = f"{rates.threads} thread{'s' if rates.threads > 1 else ''}"
    lines = []
    if rates.copy:
        again = f"{_rate(rates.copy_again)} into memory that it has already"
        where = "shared memory" if room.shm_free is not None else "the store's disk"
        lines.append(("copy", f"{_rate(rates.copy)} into {where}, {again} ({threads})"))
    if rates.hash:
        lines.append(("hash", f"{_rate(rates.hash)}, {rates.algorithm}"))
    if rates.disk:
        direct = f", {_rate(rates.write_direct)} with O_DIRECT" if rates.write_direct else ""
        lines.append(("disk", f"write and fsync {_rate(rates.write)}{direct}; read {_rate(rates.read)}"))
    if rates.upload:
        lines.append(("remote", f"up {_rate(rates.upload)}, down {_rate(rates.download)}: {remote}"))
    kind = f", {room.kind}" if room.kind else ""
    total = bytes_text(room.total)
    new = "" if room.folder == room.store else " (to be made)"
    lines.append(("store", f"{bytes_text(room.free)} of {total} free{kind}: {room.store}{new}"))
    if room.shm_free is not None and room.shm_total is not None:
        lines.append(("/dev/shm", f"{bytes_text(room.shm_free)} of {bytes_text(room.shm_total)} free"))
    limit = f", limit of the cgroup {bytes_text(room.memory_limit)}" if room.memory_limit else ""
    lines.append(("memory", f"{bytes_text(room.available)} to be had{limit}"))
    return [*lines, *_place(report), *_program(report)]


def _rate(rate: float) -> str:
    return f"{bytes_text(int(rate))}/s" if rate else "?"


def _place(report: Report) -> list[tuple[str, str]]:
    place = report.place
    words = [place.cloud] if place.cloud else []
    if place.container:
        words.append(f"{'a pod' if place.kubernetes else 'a container'} ({place.container})")
    return [("place", ", ".join(words))] if words else []


def _program(report: Report) -> list[tuple[str, str]]:
    program = report.program
    if program is None or not program.version:
        return []
    torch = f", torch {program.torch}" if program.torch else ", no torch"
    cuda = f", CUDA {program.cuda}" if program.cuda else ""
    return [("program", f"Python {program.version}{torch}{cuda}: {program.python}")]


def state_words(report: Report, remote: str) -> str:
    """How long a dump takes, in one sentence."""
    size, rates = report.size, report.rates
    if size is None:
        return (
            "The size of the job's state isn't known yet: ckptd doctor -- CMD knows it when the job has a checkpoint, "
            "--size 24G says it."
        )
    what = f"A state of {bytes_text(size.nbytes)} ({size.whence})"
    need = report.need
    if need is not None and need.disk is not None and math.isinf(need.disk):
        return f"{what} has no room here."
    if need is None or need.memory is None or need.disk is None:
        return f"{what}; without measurements nothing can be said of the time that it needs."
    if math.isinf(need.memory):
        text = f"{what} has no room in memory, and is safe on the disk after {seconds_text(need.disk)}"
    else:
        text = f"{what} is safe in memory after {seconds_text(need.memory)}{_cold(report, need.memory)}"
        text += f", on the disk after {seconds_text(need.disk)}"
    if remote and need.remote is not None:
        text += f", at the remote after {seconds_text(need.remote)}"
    if report.wait:
        text += f" (a step of {seconds_text(report.wait)} included)"
    back = f"; a resume reads it in {seconds_text(size.nbytes / rates.read)}" if rates.read else ""
    return f"{text}{back}."


def _cold(report: Report, memory: float) -> str:
    """How long the first dump takes, whose memory is not made ready yet, if that makes a difference."""
    if report.size is None or not report.rates.copy:
        return ""
    if report.size.nbytes > report.ready:
        return " (it takes too much memory to be made ready ahead)"
    cold = need_of(report.size.nbytes, report.rates, report.wait).memory
    return f" ({seconds_text(cold)} soon after the start)" if cold and cold > memory + 1 else ""


def verdict_table(report: Report, remote: bool) -> Table:
    """The notices, each with what fits; where the size isn't known, how much would."""
    names = ["IN MEMORY", "ON DISK", *(["AT REMOTE"] if remote and report.size else [])]
    names = names if report.rates.copy else []
    verdicts = {each.notice.name: each for each in report.verdicts}
    rows = []
    for notice in sorted(report.notices, key=lambda each: not each.here):
        cells = [notice.name, seconds_text(notice.seconds), "yes" if notice.here else ""]
        if not names:
            pass  # without measurements the times are all there is
        elif verdicts:
            verdict = verdicts[notice.name]
            cells += [verdict.memory, verdict.disk, *([verdict.remote] if remote else [])]
        else:
            cells += [
                f"to {size_text(each)}" if each else "-"
                for each in largest(notice.seconds, report.rates, ready=report.ready)
            ]
        rows.append(cells)
    return ["NOTICE", "GRACE", "HERE", *names], rows


def size_table(report: Report, remote: bool) -> Table:
    """How long states of some sizes take; no rows where the size is known, or nothing was measured."""
    rows = []
    for nbytes in COMPARED if report.size is None and report.rates.copy else ():
        need = need_of(nbytes, report.rates, ready=report.ready)
        cells = [need.memory, need.disk, *([need.remote] if remote else [])]
        rows.append([bytes_text(nbytes), *map(seconds_text, cells)])
    return ["STATE", "IN MEMORY", "ON DISK", *(["AT REMOTE"] if remote else [])], rows


def verdict(report: Report) -> tuple[str, bool]:
    """(the last word, it is a good one)."""
    lost, perhaps = report.loses, [each for each in report.findings if each.severity == WARNS]
    if lost:
        words = f"{_count(lost)} would lose work here: {', '.join(each.what for each in lost)}."
    elif perhaps:
        words = f"{_count(perhaps)} may lose work here: {', '.join(each.what for each in perhaps)}."
    else:
        words = "Nothing was found that would lose work."
    return f"{words} {_compared(report)}", not lost


def _count(findings: list[Finding]) -> str:
    return f"{len(findings)} thing{'s' if len(findings) > 1 else ''}"


def _compared(report: Report) -> str:
    """What the state needs beside what the notices give, wherever they come."""
    if report.size is None or report.need is None:
        return "The size of the state is yet to be known."
    need = report.need.disk
    if need is None:
        return "How long a dump takes was not measured."
    if math.isinf(need):
        return f"{bytes_text(report.size.nbytes)} have no room here."
    text = f"{bytes_text(report.size.nbytes)} need {seconds_text(need)} here"
    limits = [each for each in report.verdicts if not each.notice.delays]
    if all(each.disk == FITS for each in limits):
        return f"{text}, and every notice leaves enough."
    for said, word in (("too short", TOO_LONG), ("tight", TIGHT)):
        named = [
            f"{each.notice.name} ({seconds_text(each.notice.seconds)})"
            for each in limits
            if each.disk == word
        ]
        text += f"; {said}: {', '.join(named)}" if named else ""
    return f"{text}{'; the others leave enough' if any(each.disk == FITS for each in limits) else ''}."

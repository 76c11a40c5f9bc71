"""All that ``ckptd doctor`` finds out, in one piece."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ckptd.daemon.names import identify
from ckptd.doctor import rates as measured
from ckptd.doctor.budget import (
    Need,
    Verdict,
    grace_findings,
    judge,
    need_of,
    need_of_spilled,
    time_findings,
    without_disk,
)
from ckptd.doctor.findings import LOSES, NOTES, WARNS, Finding, in_order
from ckptd.doctor.machine import Machine
from ckptd.doctor.notice import Notice, known_notices, replaced
from ckptd.doctor.place import Place, find_place, place_findings
from ckptd.doctor.program import Program, look_at, socket_findings
from ckptd.doctor.rates import Advance, Rates
from ckptd.doctor.room import SHM, Room, look_round
from ckptd.doctor.size import Size, existing_store, given_size, stored_size
from ckptd.doctor.slurm import slurm
from ckptd.doctor.space import fits, made_ready, space_findings
from ckptd.doctor.systemd import find_unit, logind_notice, unit_findings, unit_notice
from ckptd.errors import CkptdError, NoStoreError
from ckptd.store import disk
from ckptd.store.hashing import BUILT_IN

FASTER_HASH = 2.0
"""A disk this many times as fast as the hash waits for it."""


@dataclass(frozen=True)
class Question:
    """What the user asks about."""

    store: Path
    argv: Sequence[str] = ()
    name: str = ""
    nbytes: int = 0
    """Of the state, if the user says; 0: not said."""
    remote: str = ""
    grace: float = 25.0
    unit: str = ""
    quick: bool = False
    """Nothing is measured."""


@dataclass(frozen=True)
class Report:
    """The answer."""

    place: Place
    room: Room
    rates: Rates
    size: Size | None
    program: Program | None
    notices: list[Notice]
    findings: list[Finding]

    @property
    def wait(self) -> float:
        """Seconds until a safe point, as far as known."""
        return self.size.step_seconds if self.size else 0.0

    @property
    def ready(self) -> int:
        """Bytes up to which memory is made ready for a dump ahead."""
        return made_ready(self.room)

    @property
    def need(self) -> Need | None:
        """What a dump takes; None where the size isn't known."""
        return _need(self.size, self.rates, self.room)

    @property
    def verdicts(self) -> list[Verdict]:
        """Each notice beside what the state needs; [] where the size isn't known."""
        need = self.need
        return [judge(need, notice) for notice in self.notices] if need is not None else []

    @property
    def loses(self) -> list[Finding]:
        """What would lose work as things are."""
        return [each for each in self.findings if each.severity == LOSES]

    def as_map(self) -> dict[str, Any]:
        """For --json: bytes, seconds, bytes a second; null for what isn't known or has no end."""
        need = self.need
        words = {verdict.notice.name: verdict for verdict in self.verdicts}
        rates = {name: value or None for name, value in asdict(self.rates).items()}
        return {
            "ok": not self.loses,
            "size": asdict(self.size) if self.size else None,
            "needs": {name: _finite(value) for name, value in asdict(need).items()} if need else None,
            "rates": rates,
            "room": {**asdict(self.room), "store": str(self.room.store), "folder": str(self.room.folder)},
            "place": asdict(self.place),
            "notices": [
                {
                    "name": each.name, "here": each.here, "fact": each.fact, "machine": each.machine,
                    "seconds": _finite(each.seconds),
                    "memory": words[each.name].memory if words else None,
                    "disk": words[each.name].disk if words else None,
                    "remote": words[each.name].remote if words else None,
                }
                for each in self.notices
            ],
            "program": {
                key: value for key, value in asdict(self.program).items() if key not in ("findings", "notices")
            } if self.program else None,
            "findings": [asdict(each) for each in self.findings],
        }  # fmt: skip


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _need(size: Size | None, rates: Rates, room: Room) -> Need | None:
    if size is None:
        return None
    memory, disk = fits(room, size)
    if memory:
        need = need_of(size.nbytes, rates, size.step_seconds, made_ready(room))
    else:
        need = need_of_spilled(size.nbytes, rates, size.step_seconds)
    return need if disk else without_disk(need)


def examine(question: Question, machine: Machine, advance: Advance = lambda _: None) -> Report:
    """Look, and measure. ``advance`` is called with the bytes moved. Raises CkptdError."""
    place = find_place(machine)
    room = _room(machine, question.store)
    program = look_at(question.argv, machine) if question.argv else None
    job = _job(question)
    size, wrong = _size(question, job)
    findings = [
        *wrong,
        *(program.findings if program else []),
        *(socket_findings(job, question.store) if job else []),
    ]
    notices, told = _times(question, machine, place, program)
    rates = Rates(threads=min(measured.processors(), measured.THREADS))
    if not question.quick:
        rates, failed = _measure(question, machine, room, rates, advance)
        findings += failed
    findings += told + place_findings(place)
    findings += space_findings(room, size, place, bool(question.remote)) + _hash(rates)
    need = _need(size, rates, room)
    if size is not None and need is not None:
        findings += time_findings(need, size, notices, bool(question.remote))
    return Report(place, room, rates, size, program, notices, in_order(findings + grace_findings(notices)))


def _room(machine: Machine, store: Path) -> Room:
    try:
        return look_round(machine, store)
    except OSError as error:
        raise NoStoreError(f"store {store} can't be looked at: {disk.reason(error)}") from error


def _job(question: Question) -> str:
    """Id of the job that is asked about; '' if none is."""
    if not question.argv and not question.name:
        return ""
    return identify(question.argv or ["job"], os.getcwd(), question.name).id


def _size(question: Question, job: str) -> tuple[Size | None, list[Finding]]:
    """(the state's size as far as known, what is wrong with the store)."""
    size = None
    try:
        store = existing_store(question.store)
        size = stored_size(store, job) if store is not None and job else None
    except NoStoreError as error:
        return _given(question), [Finding("store", LOSES, str(error), "ckptd run --store DIR -- CMD")]
    return _given(question) or size, []


def _given(question: Question) -> Size | None:
    return given_size(question.nbytes) if question.nbytes else None


def _times(
    question: Question, machine: Machine, place: Place, program: Program | None
) -> tuple[list[Notice], list[Finding]]:
    """(all notices, those that were seen here with what they really give; what else is wrong with them)."""
    unit = find_unit(machine, question.unit)
    queued, findings = slurm(machine)
    seen = [*queued, *logind_notice(machine), *(program.notices if program else [])]
    if unit is not None:
        seen += unit_notice(unit)
        findings += unit_findings(unit)
    if place.kubernetes:
        text = (
            "a pod can't see its own terminationGracePeriodSeconds: Kubernetes' default is taken for granted"
        )
        findings.append(Finding("Kubernetes pod", NOTES, text, "kubectl get pod -o yaml"))
    return replaced(known_notices(place, question.grace), seen), findings


def _measure(
    question: Question, machine: Machine, room: Room, rates: Rates, advance: Advance
) -> tuple[Rates, list[Finding]]:
    """(what was measured, what could not be and why)."""
    findings = []

    def failed(what: str, error: Exception) -> None:
        text = disk.reason(error) if isinstance(error, OSError) else str(error)
        findings.append(Finding(what, LOSES, f"{what} could not be measured: {text}"))

    # Where shared memory can't be written a dump is copied into a file beside the store.
    place = machine.path(SHM) if room.shm_free is not None else room.folder
    try:
        copy, again = measured.measure_copy(place, room.available, advance)
        rates = replace(rates, copy=copy, copy_again=again)
    except OSError as error:
        failed(f"copying into {place}", error)
    algorithm, speed = measured.measure_hash(advance)
    rates = replace(rates, hash=speed, algorithm=algorithm)
    if room.writable:
        try:
            write, direct, read = measured.measure_disk(room.folder, advance)
            rates = replace(rates, write=write, write_direct=direct, read=read)
        except OSError as error:
            failed(f"writing to {room.folder}", error)
    if question.remote:
        from ckptd.doctor.far import measure_remote  # here, so that all else starts without it

        try:
            up, down = measure_remote(question.remote, advance)
            rates = replace(rates, upload=up, download=down)
        except CkptdError as error:
            failed("the remote", error)
    return rates, findings


def _hash(rates: Rates) -> list[Finding]:
    if rates.algorithm != BUILT_IN or not rates.hash or rates.disk < FASTER_HASH * rates.hash:
        return []
    text = f"the disk takes more than {FASTER_HASH:g} times what the built-in hash {BUILT_IN} gives: it waits for it"
    return [Finding("hash", WARNS, text, "pip install 'ckptd[fast]'")]

"""All that is known of a program before it runs, and the verdict."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from ckptd.check import training
from ckptd.check.carried import Carried, list_carried
from ckptd.check.findings import Finding, find_all
from ckptd.check.libraries import find_trainers
from ckptd.check.loops import Loop, list_loops
from ckptd.check.modules import find_module, find_script, follow
from ckptd.check.rules import REFUSED
from ckptd_agent.source import packages


@dataclass(frozen=True)
class Report:
    """What ``ckptd check`` says."""

    path: str
    """Of the main script."""
    modules: list[str]
    """Paths of all modules that were followed."""
    loops: list[Loop]
    carried: list[Carried]
    findings: list[Finding]

    @property
    def refused(self) -> list[Finding]:
        """What surely keeps a dump from being taken."""
        return [each for each in self.findings if each.level == REFUSED]

    def as_map(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "verdict": "refused" if self.refused else "ok"}


def look_at(target: str, *, as_module: bool, instrument: Sequence[str] = ()) -> Report:
    """Read a program: a script, or a module as ``python -m`` takes it. Raises UsageError."""
    with _as_program(target, as_module, instrument):
        path = find_module(target) if as_module else find_script(target)
        modules = follow(path, instrument)
        program = training.read(modules)
        loops = list_loops(modules, program)
        findings = [*find_all(modules, program), *find_trainers(modules, program)]
        findings += _never_safe(loops)
        carried = list_carried(modules, program)
    return Report(path, [module.path for module in modules], loops, carried, findings)


def _never_safe(loops: list[Loop]) -> Iterator[Finding]:
    """No loop that trains is a safe point: a dump would wait for one in vain."""
    training_loops = [loop for loop in loops if loop.trains]
    if not training_loops or any(loop.safe_point for loop in training_loops):
        return
    loop = training_loops[0]
    yield Finding(
        REFUSED, loop.path, loop.line, f"the training loop {loop.head}",
        f"is {loop.why}, where no checkpoint can be taken: put it into a for or while loop of a plain function",
    )  # fmt: skip


@contextmanager
def _as_program(target: str, as_module: bool, instrument: Sequence[str]) -> Iterator[None]:
    """Let sys.path and the environment be the program's while its imports are looked for."""
    before, kept = sys.path[:], os.environ.get(packages.VARIABLE)
    folder = os.getcwd() if as_module else os.path.dirname(os.path.abspath(target))
    sys.path.insert(0, folder)
    if instrument:
        os.environ[packages.VARIABLE] = ",".join(instrument)
    try:
        yield
    finally:
        sys.path[:] = before
        if kept is None:
            os.environ.pop(packages.VARIABLE, None)
        else:
            os.environ[packages.VARIABLE] = kept

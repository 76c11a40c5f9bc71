"""Moments of a run that a test can name: each is seen from outside, none is a matter of luck."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class View(Protocol):
    """What of a run can be seen from outside."""

    cwd: Path
    started: float
    """Monotonic time at which the present training process was first seen."""

    def lines(self) -> list[bytes]:
        """Complete lines on stdout so far, of all the job's processes."""

    def said(self) -> list[bytes]:
        """Complete lines of ckptd's own on stderr so far."""


class Moment(Protocol):
    """Something that comes once in a run."""

    @property
    def after(self) -> float:
        """Milliseconds to let pass once it has come."""

    def has_come(self, view: View) -> bool:
        """Whether it is here, or has passed."""


@dataclass(frozen=True)
class Line:
    """The ``n``-th line of stdout that ``pattern`` is found in has appeared."""

    pattern: str
    n: int = 1
    after: float = 0.0

    def has_come(self, view: View) -> bool:
        found = re.compile(self.pattern.encode())
        return sum(1 for line in view.lines() if found.search(line)) >= self.n


@dataclass(frozen=True)
class Said:
    """ckptd has said the ``n``-th line that ``pattern`` is found in."""

    pattern: str
    n: int = 1
    after: float = 0.0

    def has_come(self, view: View) -> bool:
        found = re.compile(self.pattern.encode())
        return sum(1 for line in view.said() if found.search(line)) >= self.n


@dataclass(frozen=True)
class FileHas:
    """The file ``path`` (relative to the working folder) exists and has ``lines`` lines or more."""

    path: str
    lines: int = 0
    after: float = 0.0

    def has_come(self, view: View) -> bool:
        try:
            return (view.cwd / self.path).read_bytes().count(b"\n") >= self.lines
        except FileNotFoundError:
            return False


@dataclass(frozen=True)
class Committed:
    """``n`` or more checkpoints lie in the store."""

    store: Path
    n: int = 1
    after: float = 0.0

    def has_come(self, view: View) -> bool:
        found = self.store.glob("jobs/*/checkpoints/[0-9]*/manifest.json")
        return sum(1 for _ in found) >= self.n


@dataclass(frozen=True)
class Start:
    """The training process has been there for ``after`` milliseconds."""

    after: float = 0.0

    def has_come(self, view: View) -> bool:
        return time.monotonic() >= view.started

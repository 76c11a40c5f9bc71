"""What a run did, and how two runs differ."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """All that a run left for the world to see."""

    status: int
    """Exit status, negative for the number of the signal that ended it."""
    stdout: bytes
    stderr: bytes
    files: dict[str, bytes]
    """Every file below the working folder, by relative path."""
    processes: list[int] = field(default_factory=list)
    """Pids of the training processes that were seen, in order; empty for a plain run."""

    def then(self, later: Outcome) -> Outcome:
        """This run followed by ``later``, the same command given again, as if it had been one."""
        return Outcome(
            status=later.status,
            stdout=self.stdout + later.stdout,
            stderr=self.stderr + later.stderr,
            files=later.files,
            processes=self.processes + later.processes,
        )


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """What both kinds of run get: one thread, unbuffered output, nothing of ckptd's own.

    One thread, so that runs can go side by side on few cores; unbuffered, so that a line is seen
    when it is printed. A test of buffered output passes ``{"PYTHONUNBUFFERED": ""}``.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("CKPTD_")}
    env.pop("PYTHONHASHSEED", None)
    env.update(OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1")
    env.update(extra or {})
    return env


def files_below(folder: Path) -> dict[str, bytes]:
    """Every regular file below ``folder`` with its bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def compare(plain: Outcome, interrupted: Outcome, status: int | None = None) -> list[str]:
    """How the two differ, in words; an empty list says not at all.

    Stderr is left out, as ckptd speaks there. ``status`` is what the interrupted run should have
    ended with, if that is not the plain run's exit status.
    """
    wanted = plain.status if status is None else status
    differences = []
    if interrupted.status != wanted:
        differences.append(f"exit status {interrupted.status} and not {wanted}")
    differences += _lines("stdout", plain.stdout, interrupted.stdout)
    for name in sorted(plain.files.keys() | interrupted.files.keys()):
        if name not in interrupted.files:
            differences.append(f"{name} is missing")
        elif name not in plain.files:
            differences.append(f"{name} is one too many")
        else:
            differences += _lines(name, plain.files[name], interrupted.files[name])
    return differences


def _lines(name: str, plain: bytes, interrupted: bytes) -> list[str]:
    """The first line that differs, or the first byte where it is no text."""
    if plain == interrupted:
        return []
    if b"\0" in plain:
        at = next((i for i, (a, b) in enumerate(zip(plain, interrupted, strict=False)) if a != b), -1)
        return [f"{name}: {len(interrupted)} bytes for {len(plain)}, byte {at} is the first that differs"]
    ours, theirs = interrupted.splitlines(), plain.splitlines()
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        if mine != other:
            return [f"{name}: line {number} is {mine!r} and not {other!r}"]
    if len(ours) > len(theirs):
        return [f"{name}: {len(ours)} lines for {len(theirs)}, one too many is {ours[len(theirs)]!r}"]
    if len(ours) < len(theirs):
        return [f"{name}: {len(ours)} lines for {len(theirs)}, missing is {theirs[len(ours)]!r}"]
    return [f"{name}: differs in its line ends"]

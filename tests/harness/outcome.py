"""What a run did, and how two runs differ."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from ckptd.daemon.names import place_key


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

    def saying(self, stdout: bytes) -> Outcome:
        """The same with another stdout."""
        return replace(self, stdout=stdout)


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


def unrepeated(plain: bytes, told: bytes, times: int) -> bytes:
    """What ``told`` says without the lines that a run said again.

    A process that is killed has printed lines since its last checkpoint; they can't be taken back
    from a pipe, and the resumed run prints them again. Up to ``times`` such returns to an earlier
    line of ``plain`` are taken out; whatever else differs stays and is seen by compare().
    """
    lines, at = plain.splitlines(keepends=True), 0
    kept: list[bytes] = []
    for line in told.splitlines(keepends=True):
        if at < len(lines) and line == lines[at]:
            kept.append(line)
            at += 1
            continue
        back = next((i for i, said in enumerate(lines[: at + 1]) if _again(line, said, lines[at:])), None)
        if back is None or not times:
            kept.append(line)
            at += 1
            continue
        times -= 1
        kept[back:] = [lines[back]]
        at = back + 1
    return b"".join(kept)


def _again(line: bytes, said: bytes, due: list[bytes]) -> bool:
    """Whether ``line`` is ``said``, maybe behind a piece of the line that was due when the kill came."""
    cut = line.removesuffix(said)
    return line == said or (len(cut) < len(line) and bool(due) and due[0].startswith(cut))


def leftovers(store: Path) -> list[Path]:
    """Sockets and segments of this store's jobs that outlived their supervisor."""
    places = [Path("/dev/shm"), Path("/tmp") / f"ckptd-{os.geteuid()}"]
    if os.environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(os.environ["XDG_RUNTIME_DIR"]) / "ckptd")
    jobs = [place_key(folder.name, store) for folder in store.glob("jobs/*")]
    return [path for place in places for job in jobs for path in place.glob(f"*{job}*")]


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

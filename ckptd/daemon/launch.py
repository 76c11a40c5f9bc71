"""Before a program is started: what runs it, whether the agent can get in, and its environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ckptd.bootstrap import bootstrap_folder
from ckptd.daemon.places import RUNTIME
from ckptd.errors import CommandNotFoundError, CommandUnusableError
from ckptd.settings import Settings, signal_name

_PYTHON = re.compile(r"python(\d+(\.\d+)?)?t?")
_TAKES_VALUE = frozenset("WX")
_PROBE = "import sys; print('%s|%d.%d' % (sys.prefix, *sys.version_info[:2]))"
_PROBE_SECONDS = 10.0
_SHEBANG_BYTES = 256


@dataclass(frozen=True)
class Reach:
    """Whether the agent can get into a command."""

    reachable: bool
    why: str = ""
    """If not: one sentence."""


def resolve(argv: Sequence[str]) -> str:
    """The file that a command runs, found as a shell finds it.

    Raises:
        CommandNotFoundError, CommandUnusableError: with a shell's exit status.
    """
    program = argv[0]
    found = shutil.which(program)
    if found is not None:
        return found
    if os.sep in program and os.path.lexists(program):
        raise CommandUnusableError(f"{program} can't be run: it is a folder, or not executable (chmod +x)")
    raise CommandNotFoundError(f"{program}: no such command")


def this_python() -> str:
    """The interpreter that has the agent, as CKPTD_PYTHON names it: 'sys.prefix|major.minor'."""
    return f"{sys.prefix}|{sys.version_info[0]}.{sys.version_info[1]}"


def reach(path: str, argv: Sequence[str]) -> Reach:
    """Look at a command (``path`` is what resolve found) without running the program."""
    found = interpreter(path, argv)
    if found is not None:
        return _reach_python(*found)
    return Reach(
        False,
        f"{argv[0]} is not Python: it runs as without ckptd (only a Python program it starts can be saved)",
    )


def interpreter(path: str, argv: Sequence[str]) -> tuple[str, list[str]] | None:
    """(the Python that runs a command, the arguments that it gets); None if it is not Python that runs it."""
    if _is_python(argv[0]) or _is_python(path):
        return path, list(argv[1:])
    words = _shebang(path)
    if words and _is_python(words[0]):
        resolved = shutil.which(words[0])
        if resolved is not None:
            return resolved, [*words[1:], path, *argv[1:]]
    return None


def _is_python(path: str) -> bool:
    return _PYTHON.fullmatch(os.path.basename(path)) is not None


def _reach_python(path: str, args: list[str]) -> Reach:
    why = _hidden_by_flags(args)
    if why:
        return Reach(False, f"{why}: it runs as without ckptd")
    ours, theirs = this_python(), _python_of(path)
    if theirs != ours:
        prefix, _, version = theirs.partition("|")
        there = f"Python {version} in {prefix}" if version else f"the interpreter {path}"
        return Reach(
            False, f"{there} has no ckptd agent (this ckptd is of {sys.prefix}), install ckptd there and "
            "use that one: it runs as without ckptd",
        )  # fmt: skip
    return Reach(True)


def _hidden_by_flags(args: Sequence[str]) -> str:
    """Why the agent can't get into ``python ARGS``, '' if it can."""
    words = iter(args)
    for word in words:
        if word == "-" or not word.startswith("-"):
            return "a script on stdin can't be saved" if word == "-" else ""
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(words, None)
            continue
        for index, letter in enumerate(word[1:], start=1):
            if letter in "IES":
                return f"python -{letter} shuts the agent out"
            if letter == "c":
                return "a program given with -c can't be saved"
            if letter == "m":
                return ""
            if letter in _TAKES_VALUE:
                if index == len(word) - 1:
                    next(words, None)
                break
    return "a program read from stdin can't be saved"


def _python_of(path: str) -> str:
    """'prefix|major.minor' of an interpreter; '' if it doesn't say."""
    # The usual case costs no process: it is the very file that runs ckptd.
    here = Path(sys.executable)
    if Path(path).absolute().parent == here.parent and Path(path).resolve() == here.resolve():
        return this_python()
    try:
        asked = subprocess.run(
            [path, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = asked.stdout.strip().splitlines()
    return lines[-1] if asked.returncode == 0 and lines else ""


def _shebang(path: str) -> list[str]:
    """The words of a script's first line, ``env`` left out; [] if it has none."""
    try:
        with open(path, "rb") as file:
            line = file.readline(_SHEBANG_BYTES)
    except OSError:
        return []
    if not line.startswith(b"#!"):
        return []
    words = os.fsdecode(line[2:]).split()
    if words and os.path.basename(words[0]) == "env":
        words = words[1:]
        if words and words[0] == "-S":
            words = words[1:]
    return words


@dataclass(frozen=True)
class Attempt:
    """What one start of the program is told through its environment."""

    job: str
    number: int
    endpoint: str
    segments: Path
    hashseed: str
    """Drawn for the job; '' where the user set PYTHONHASHSEED."""
    resume: Path | None = None
    memory: Path | None = None
    """The segment that it was written from, if that is still there."""
    spill: Path | None = None
    """Where storages go that memory has no room for: on the store's disk."""


def environment(base: Mapping[str, str], attempt: Attempt, settings: Settings) -> dict[str, str]:
    """The job's environment: the user's, with what the agent needs. Raises CkptdError."""
    env = dict(base)
    bootstrap = str(bootstrap_folder())
    path = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p != bootstrap]
    env["PYTHONPATH"] = os.pathsep.join([bootstrap, *path]) if path != [""] else bootstrap
    env["CKPTD_ENDPOINT"] = attempt.endpoint
    env["CKPTD_JOB"] = attempt.job
    env["CKPTD_PYTHON"] = this_python()
    env["CKPTD_SEGMENTS"] = str(attempt.segments)
    names = (signal_name(number).removeprefix("SIG") for number in settings.notice_signals)
    env["CKPTD_NOTICE_SIGNALS"] = ",".join(names)
    env["CKPTD_GRACE"] = f"{settings.grace:g}"
    env["CKPTD_ATTEMPT"] = str(attempt.number)
    env.pop("CKPTD_CLAIMED", None)  # ckptd itself may run below a training process of another job
    env.pop(RUNTIME, None)
    env.pop("CKPTD_RESUME", None)
    if attempt.resume is not None:
        env["CKPTD_RESUME"] = str(attempt.resume)
    env.pop("CKPTD_SPILL", None)
    if attempt.spill is not None:
        env["CKPTD_SPILL"] = str(attempt.spill)
    env.pop("CKPTD_MEMORY", None)
    if attempt.resume is not None and attempt.memory is not None:
        env["CKPTD_MEMORY"] = str(attempt.memory)
    env.pop("CKPTD_ALLOW_CHANGED", None)
    if settings.allow_changed:
        env["CKPTD_ALLOW_CHANGED"] = "1"
    env.pop("CKPTD_INSTRUMENT", None)
    if settings.instrument:
        env["CKPTD_INSTRUMENT"] = ",".join(settings.instrument)
    env.pop("CKPTD_REMADE", None)
    if settings.remade:
        env["CKPTD_REMADE"] = ",".join(settings.remade)
    if attempt.hashseed:
        env["PYTHONHASHSEED"] = attempt.hashseed
    return env

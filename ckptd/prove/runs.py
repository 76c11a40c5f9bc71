"""Runs the command: as it is, or under ``ckptd run`` with the journal of digests, and stopped at given steps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ckptd.errors import CkptdError
from ckptd.prove.outputs import Output
from ckptd.prove.scratch import Scratch

LOOK_SECONDS = 0.1
"""How often a run is looked at."""
_OURS = (
    "ATTEMPT", "CLAIMED", "DIGESTS", "DIGESTS_STOPS", "DIGESTS_UNTIL", "ENDPOINT", "EVERY", "FRESH", "JOB", "JSON",
    "MAX_RESTARTS", "NAME", "NOTICE_SIGNALS", "PINS", "PYTHON", "QUIET", "RESTART_DELAY", "RESUME", "SEGMENTS",
    "STORE", "VERBOSE",
)  # fmt: skip
"""CKPTD_* variables that would make these runs other than they are meant; what else the user set holds."""
_CKPTD = "import sys; sys.path[:] = filter(None, sys.path); from ckptd.cli.main import main; sys.exit(main())"
"""As ``python -m ckptd``, which would look for ckptd in the copied folder first."""
Watch = Callable[[int], None]
"""Told the number of training events so far."""


@dataclass(frozen=True)
class Conditions:
    """How a run is to be done."""

    name: str
    """What its folder is called."""
    stops: Sequence[int] = ()
    """Steps behind which it is stopped."""
    hashseed: str = ""
    """PYTHONHASHSEED; '' leaves what the user has."""
    pins: Sequence[str] = ()
    """Switches that are set from outside."""
    until: int = 0
    """Training events after which it is cut short; 0: never."""


@dataclass(frozen=True)
class Stopped:
    """One interruption."""

    asked: int
    """The step behind which it was asked for."""
    saved: int | None
    """The step that the checkpoint is of; None: there was none."""
    resumed: bool


@dataclass(frozen=True)
class Finished:
    """A run that is over."""

    name: str
    status: int
    """0 to 255, or minus the signal's number."""
    seconds: float
    output: Output
    journal: Path
    """Not there if the command never imported torch, or was run without ckptd."""
    stderr: Path
    said: list[str] = field(default_factory=list)
    """ckptd's own lines."""


class Runner:
    """Runs one command in scratch copies of its folder."""

    def __init__(self, argv: Sequence[str], scratch: Scratch, grace: str) -> None:
        self.argv = move_words(argv, scratch)
        self.scratch = scratch
        self.grace = grace

    def run_bare(self, name: str, watch: Watch) -> Finished:
        """As the user would, without ckptd."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("CKPTD_")}
        return self._run(name, self.argv, env, watch)

    def run(self, conditions: Conditions, watch: Watch) -> Finished:
        """Under ckptd, with a store of its own."""
        drop = {f"CKPTD_{word}" for word in _OURS}
        env = {key: value for key, value in os.environ.items() if key not in drop}
        env["CKPTD_DIGESTS"] = str(self._place(conditions.name, "journal"))
        env["CKPTD_DIGESTS_STOPS"] = ",".join(map(str, conditions.stops))
        env["CKPTD_DIGESTS_UNTIL"] = str(conditions.until)
        env["CKPTD_PINS"] = ",".join(conditions.pins)
        if conditions.hashseed:
            env["PYTHONHASHSEED"] = conditions.hashseed
        if "algorithms" in conditions.pins:
            env.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        store = self._place(conditions.name, "store")
        # A death is to be seen, not mended.
        flags = ("--store", str(store), "--max-restarts", "0", "--grace", self.grace)
        command = [sys.executable, "-c", _CKPTD, "run", *flags, "--", *self.argv]
        return self._run(conditions.name, command, env, watch)

    def _place(self, name: str, what: str) -> Path:
        return self.scratch.root / f"{name}.{what}"

    def _run(self, name: str, command: Sequence[str], env: dict[str, str], watch: Watch) -> Finished:
        self.scratch.prepare()
        stdout, stderr, journal = (self._place(name, what) for what in ("stdout", "stderr", "journal"))
        began = time.monotonic()
        with open(stdout, "wb") as out, open(stderr, "wb") as err:
            try:
                process = subprocess.Popen(
                    command, cwd=self.scratch.work, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                    start_new_session=True,  # a Ctrl-C is for us alone
                )  # fmt: skip
            except OSError as error:
                raise CkptdError(f"{command[0]} can't be run: {(error.strerror or '').lower()}") from error
            with process:
                try:
                    _wait(process, journal, watch)
                finally:
                    _end(process)
        seconds = time.monotonic() - began
        folder, written = self.scratch.keep(name)
        said = _said(stderr)
        return Finished(
            name, process.returncode, seconds, Output(stdout, folder, written), journal, stderr, said
        )


def move_words(argv: Sequence[str], scratch: Scratch) -> list[str]:
    """The command's words with paths into the folder leading into its copy, and paths out of it made absolute."""
    source, words = str(scratch.source), []
    for number, word in enumerate(argv):
        if word == ".." or word.startswith("../"):
            word = os.path.normpath(os.path.join(source, word))
        elif number == 0 and os.sep in word and not scratch.holds(word):
            word = os.path.normpath(os.path.join(source, word))  # an interpreter in a virtual environment
        before, found, behind = word.partition(source)
        whole = (not behind or behind[0] == os.sep) and (not before or before[-1] in "=:,")
        if found and whole and (number or scratch.holds(word)):
            word = before + str(scratch.work) + behind
        words.append(word)
    return words


def _wait(process: subprocess.Popen[bytes], journal: Path, watch: Watch) -> None:
    seen = place = 0
    while True:
        try:
            process.wait(LOOK_SECONDS)
            return
        except subprocess.TimeoutExpired:
            steps, place = _count_steps(journal, place)
            seen += steps
            watch(seen)


def _count_steps(journal: Path, place: int) -> tuple[int, int]:
    """Training events that the journal has from ``place`` on, and where to look on."""
    try:
        with open(journal, "rb") as file:
            file.seek(place)
            data = file.read()
    except FileNotFoundError:
        return 0, 0
    whole = data.rfind(b"\n") + 1
    return data[:whole].count(b'{"k":"step"'), place + whole


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of it behind. The job goes first: its supervisor then tidies up and ends by itself."""
    if process.poll() is not None:
        return
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()


def _said(stderr: Path) -> list[str]:
    with open(stderr, "rb") as file:
        lines = [line.removeprefix(b"ckptd: ") for line in file if line.startswith(b"ckptd: ")]
    return [line.decode("utf-8", "replace").rstrip("\n") for line in lines]

"""One box for all tests here, with ckptd's units as ``ckptd daemon install`` writes them, and jobs to run in it."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from systemd.box import ROOT, Box, why_not

CKPTD = Path(sys.executable).with_name("ckptd")
FAKE = ROOT / "tests" / "integration" / "supervisor" / "fake_agent.py"
STUB = ROOT / "tests" / "integration" / "supervisor" / "stub"
PROGRAMS = ROOT / "tests" / "programs"
NUMBERS = itertools.count()


@dataclass
class Job:
    """A job of the box's, as the unit ckptd@NAME."""

    box: Box
    name: str

    @property
    def unit(self) -> str:
        return f"ckptd@{self.name}.service"

    def systemctl(self, *words: str) -> None:
        try:
            self.box.run("systemctl", *words, self.unit)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.err()[-20:]])) from None

    def dropin(self, text: str) -> None:
        """What an administrator would write with systemctl edit."""
        self.box.write(f"/etc/systemd/system/{self.unit}.d/override.conf", text)
        self.box.run("systemctl", "daemon-reload")

    def out(self) -> list[str]:
        """Complete lines that the program has printed, in all its starts."""
        return self._lines("out")

    def err(self) -> list[str]:
        return self._lines("err")

    def ends(self) -> list[str]:
        """'EXIT-STATUS RESULT' of each of its ends."""
        return self._lines("ends")

    def _lines(self, kind: str) -> list[str]:
        path = self.box.folder / f"{self.name}.{kind}"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def until(self, condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
        try:
            self.box.until(condition, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.out()[-20:]}\n" + "\n".join(self.err()[-20:])) from None

    def has_printed(self, lines: int) -> None:
        self.until(lambda: len(self.out()) >= lines, f"line {lines} of {self.name}")

    def is_over(self) -> None:
        self.until(lambda: self.box.state(self.unit) in ("inactive", "failed"), f"the end of {self.name}")

    def said(self, text: str) -> bool:
        return any(text in line for line in self.err())

    @property
    def property(self) -> dict[str, str]:
        return self.box.properties(self.unit)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    if why := why_not():
        pytest.skip(why)
    machine = Box(tmp_path_factory.mktemp("box"))
    try:
        machine.boot()
        machine.run(CKPTD, "daemon", "install", "--no-start")
        folder = machine.folder
        machine.write(
            "/etc/systemd/system/ckptd@.service.d/test.conf",
            f"[Service]\nStandardOutput=append:{folder}/%i.out\nStandardError=append:{folder}/%i.err\n"
            f"ExecStopPost=+/bin/sh -c 'echo $EXIT_STATUS $SERVICE_RESULT >> {folder}/%i.ends'\n"
            "RestartSec=100ms\n",
        )
        machine.run("systemctl", "daemon-reload")
        yield machine
    finally:
        machine.cut()


@pytest.fixture
def box(installed: Box) -> Box:
    """The box, switched on, whatever a test before did to it."""
    if not installed.on:
        installed.boot()
    return installed


@pytest.fixture
def job(box: Box, request: pytest.FixtureRequest) -> Iterator[Callable[..., Job]]:
    """Write the environment file of a job: job("python x.py", CKPTD_EVERY="1s")."""
    made: list[Job] = []

    def make(command: str, **variables: str) -> Job:
        name = re.sub(r"[^a-z0-9]+", "_", request.node.name.removeprefix("test_"))[:40] + f"_{next(NUMBERS)}"
        one = Job(box, name)
        made.append(one)
        given = {"DIRECTORY": str(box.folder), "COMMAND": command, **variables}
        lines = [f"{key}={shlex.quote(value)}" for key, value in given.items()]
        box.write(f"/etc/ckptd/{name}.env", "\n".join(lines) + "\n")
        return one

    yield make
    if not box.on:
        box.boot()
    for one in made:
        box.run("systemctl", "kill", "--kill-who=all", "--signal=KILL", one.unit, check=False)
        box.run("systemctl", "stop", one.unit, check=False)
        box.run("systemctl", "disable", one.unit, check=False)


@pytest.fixture
def fake(job: Callable[..., Job]) -> Callable[..., Job]:
    """A job that speaks the agent's part itself, and counts to STEPS: fake(STEPS, pace=0.01)."""

    def make(steps: int, variables: dict[str, str] | None = None, **keys: object) -> Job:
        words = [sys.executable, str(FAKE), str(steps), *(f"{key}={value}" for key, value in keys.items())]
        return job(" ".join(words), CKPTD_AGENT_PATH=str(STUB), **(variables or {}))

    return make


def counted(steps: int) -> list[str]:
    """What such a job prints that was never harmed."""
    return [str(step) for step in range(1, steps + 1)]


def program(name: str) -> Path:
    return PROGRAMS / name

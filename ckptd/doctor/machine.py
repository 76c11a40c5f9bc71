"""The machine as seen through its files, its environment and the programs on its PATH."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from ckptd.notices.machine import Files

ANSWER_SECONDS = 5.0
"""How long another program may take to answer; slurmctld and D-Bus can be slow."""


@dataclass(frozen=True)
class Machine(Files):
    """Where /proc, /sys, /etc and so on are looked for, and with which environment programs are asked."""

    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def number(self, name: str) -> int | None:
        """The number that a file holds; None if it holds none ('max', or it is not there)."""
        text = self.read(name)
        return int(text) if text.isdigit() else None

    def names(self, name: str) -> list[str]:
        """What is in a folder; [] if it can't be read."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def ask(self, *words: str) -> str:
        """What a program on PATH prints; '' if it isn't there, fails, or takes too long."""
        program = shutil.which(words[0], path=self.env.get("PATH", os.defpath))
        if program is None:
            return ""
        try:
            asked = subprocess.Popen(
                [program, *words[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**self.env, "LC_ALL": "C"}, text=True, errors="replace", start_new_session=True,
            )  # fmt: skip
        except OSError:
            return ""
        with asked:
            try:
                said = asked.communicate(timeout=ANSWER_SECONDS)[0]
            except subprocess.TimeoutExpired:
                os.killpg(asked.pid, signal.SIGKILL)  # what it started holds its output open
                return ""
        return said.strip() if asked.returncode == 0 else ""

"""A real Slurm: slurmctld, slurmd and munged in namespaces of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

HERE = Path(__file__).parent
NAMESPACES = ["unshare", "--pid", "--fork", "--mount-proc", "--net", "--uts", "--ipc", "--kill-child"]
DEADLINE = 60.0


def missing() -> str:
    """Why there is no Slurm here; '' if there is."""
    absent = [
        name for name in ("slurmctld", "slurmd", "munged", "ip", "nsenter") if shutil.which(name) is None
    ]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client munge iproute2"
    if os.geteuid() != 0:
        return "slurmd wants root"
    done = subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "namespaces are not allowed here"


def wait_for(condition: Callable[[], Any], what: Callable[[], str]) -> Any:
    """Until a condition holds."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, what()
        time.sleep(0.1)
    return value


class Cluster:
    """A cluster in a folder, and the users' commands inside of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "slurm.conf").write_text((HERE / "slurm.conf").read_text().replace("@DIR@", str(folder)))
        with open(folder / "out", "wb") as out:
            self._box = subprocess.Popen(
                [*NAMESPACES, "sh", HERE / "box.sh", folder], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._init = 0

    def begin(self) -> None:
        """Wait until the node takes jobs."""
        children = wait_for(lambda: psutil.Process(self._box.pid).children(), self.told)
        self._init = children[0].pid
        wait_for(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"), self.told)

    def ask(self, *words: str | Path, **env: str) -> str:
        """What one of Slurm's commands prints; '' if it fails."""
        command = ["nsenter", "--target", str(self._init), "--all", *map(str, words)]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("CKPTD_")}
        done = subprocess.run(
            command, env={**variables, "SLURM_CONF": str(self.folder / "slurm.conf"), **env},
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=DEADLINE, check=False,
        )  # fmt: skip
        return done.stdout.strip() if done.returncode == 0 else ""

    def job(self, ident: str) -> dict[str, str]:
        """What scontrol says of a job."""
        words = self.ask("scontrol", "show", "job", ident, "--oneliner").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def told(self) -> str:
        """The end of every log, for a test that fails."""
        logs = [path for path in (*self.folder.glob("*.log"), self.folder / "out") if path.exists()]
        return "\n".join(f"---- {path.name}\n{path.read_text()[-1500:]}" for path in logs)

    def end(self) -> None:
        """All of it is gone with the first process."""
        for child in psutil.Process(self._box.pid).children():
            child.kill()
        self._box.wait(DEADLINE)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with one node of 4 CPUs, a partition 'low' and one 'high' that preempts it."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    made = Cluster(folder)
    try:
        made.begin()
        yield made
    finally:
        made.end()

"""A cgroup for the program alone, inside of the scope that ckptd's daemon made for the job.

Killing it ends all of the program's processes in one stroke: also such as have changed their user, and such as fork
faster than they can be looked for. Only in a scope that ckptd made; a cgroup of somebody else's is not touched.
"""

from __future__ import annotations

import re
from pathlib import Path

_SCOPE = re.compile(r"ckptd-job-.+\.scope")
_NAME = "program"


class Cell:
    """The cgroup (version 2) in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, pid: int) -> None:
        """Put a process into it, before that has had time to start others; one that is gone is no error."""
        try:
            self.folder.joinpath("cgroup.procs").write_text(f"{pid}\n")
        except OSError:
            return  # it has ended, or the scope was not given to us: it is ended one by one, as everywhere else

    def kill(self) -> None:
        """SIGKILL for all that are in it."""
        try:
            self.folder.joinpath("cgroup.kill").write_text("1\n")
        except OSError:
            return  # the scope is gone, and with it all that was in it


def make_cell(process: Path = Path("/proc/self")) -> Cell | None:
    """A cell below this process's own cgroup; None where that is no scope of ckptd's, or cgroups are older."""
    try:
        lines = process.joinpath("cgroup").read_text().splitlines()
        path = next((line[3:] for line in lines if line.startswith("0::")), "")
        mount = _mounted(process.joinpath("mountinfo").read_text())
        if mount is None or not _SCOPE.fullmatch(Path(path).name):
            return None
        folder = mount / path.lstrip("/") / _NAME
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return Cell(folder) if folder.joinpath("cgroup.kill").exists() else None


def _mounted(mountinfo: str) -> Path | None:
    for line in mountinfo.splitlines():
        before, _, behind = line.partition(" - ")
        words = before.split()
        if behind.split()[:1] == ["cgroup2"] and len(words) > 4 and words[3] == "/":
            return Path(words[4])
    return None

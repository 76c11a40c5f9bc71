"""How much of the host's memory a job takes, each page counted once."""

from __future__ import annotations

from pathlib import Path

import psutil


def taken(supervisor: int, program: int, segments: Path | None) -> tuple[float, float]:
    """Bytes of a supervisor, its program and their children, and bytes that they have in shared memory.

    Private and mapped pages are counted by their share (PSS), so that libraries count once. Of shared memory it is the
    files of the segments as far as they have pages, mapped or not, or what is mapped of it, where that is more. The
    page cache is not counted: the kernel takes it back when it needs it.
    """
    own = mapped = 0
    for pid in {supervisor, program, *_children(supervisor), *_children(program)}:
        for name, value in _shares(pid).items():
            if name in ("Pss_Anon", "Pss_File"):
                own += value
            elif name == "Pss_Shmem":
                mapped += value
    return float(own), float(max(mapped, held(segments)))


def _shares(pid: int) -> dict[str, int]:
    """Bytes by name of /proc/PID/smaps_rollup; empty if the process is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file][1:]
    except OSError:
        return {}
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}


def held(folder: Path | None) -> int:
    """Bytes of the pages that the files of a folder in shared memory have."""
    if folder is None:
        return 0
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue  # removed since it was listed
    return total


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []

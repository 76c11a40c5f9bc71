"""How much memory can be had without harm to anybody."""

from __future__ import annotations

from pathlib import Path


def available(root: Path = Path("/")) -> int:
    """Bytes that this process may still take, by /proc/meminfo and by the limits of its cgroups.

    ``root`` is where /proc and /sys lie. MemAvailable: proc(5). memory.max, memory.current and inactive_file,
    which the kernel gives back when there is need: Documentation/admin-guide/cgroup-v2.rst.
    """
    found = [_machine(root)]
    found += [left for folder in _cgroups(root) if (left := _left(folder)) is not None]
    return max(0, min(found))


def _machine(root: Path) -> int:
    try:
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0  # who can't say has none


def _cgroups(root: Path) -> list[Path]:
    """The folders of this process's cgroup (version 2) and those above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    top = root / "sys/fs/cgroup"
    for line in lines:
        number, _, path = line.split(":", 2)
        if number == "0":
            own = top / path.lstrip("/")
            return [own, *(each for each in own.parents if each == top or top in each.parents)]
    return []


def _left(folder: Path) -> int | None:
    """What a cgroup's limit leaves; None where it has none."""
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        current = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = dict(
            line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        )
        return int(limit) - current + int(stat.get("inactive_file", 0))
    except (OSError, ValueError):
        return None

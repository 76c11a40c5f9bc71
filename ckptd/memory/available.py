"""How much memory can be had without harm to anybody."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

UNLIMITED = 1 << 60
"""Version 1 writes some number above it where there is no limit."""
NAMES = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""Where the limits lie: by the controllers that /proc/self/cgroup names, version 2 and version 1."""


def available(root: Path = Path("/")) -> int:
    """Bytes that this process may still take, by /proc/meminfo and by the limits of its cgroups.

    ``root`` is where /proc and /sys lie. MemAvailable: proc(5). Limits, use, and inactive_file, which the kernel
    gives back when there is need: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst.
    """
    left = [_left(*place) for place in _cgroups(root)]
    return max(0, min([_machine(root), *(each for each in left if each is not None)]))


def _machine(root: Path) -> int:
    try:
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0  # who can't say has none


def _cgroups(root: Path) -> list[tuple[Path, str, str]]:
    """The folders of this process's cgroups and those above, with the names of limit and use there.

    In a container the path may be the one outside: then only the top is there.
    """
    found: list[tuple[Path, str, str]] = []
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            if name in NAMES:
                top, limit, use = NAMES[name]
                own = PurePosixPath(path.lstrip("/"))
                found += [(root / top / each, limit, use) for each in (own, *own.parents)]
    return found


def _left(folder: Path, limit: str, use: str) -> int | None:
    """What a cgroup's limit leaves; None where it has none."""
    try:
        most = (folder / limit).read_text(encoding="ascii").strip()
        if most == "max" or int(most) >= UNLIMITED:
            return None
        used = int((folder / use).read_text(encoding="ascii"))
        stat = dict(
            line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        )
        return int(most) - used + int(stat.get("inactive_file", 0))
    except (OSError, ValueError):
        return None

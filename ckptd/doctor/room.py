"""What there is room for: on the store's disk, in shared memory, in memory, and in a file.

Sources: a tmpfs such as /dev/shm takes half of the memory unless told otherwise, 64 MB in a container of
Docker's (docs.docker.com, 'docker run --shm-size') and of Kubernetes' (kubernetes#28272). What lies in shared
memory counts against the memory limit of the cgroup that touched it first (kernel.org, cgroup-v2.rst, 'Memory
Ownership'). A file beyond RLIMIT_FSIZE is not written (setrlimit(2)), in shared memory as on a disk. The newest
three checkpoints stay (docs/retention.md), and the next is whole before the oldest goes.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ckptd.doctor.machine import Machine

SHM = "/dev/shm"
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "9p", "afs", "wekafs"}
)
"""File systems that outlive a machine."""
_UNLIMITED = 1 << 62
"""cgroup v1 writes a number that is nearly this large for none."""


@dataclass(frozen=True)
class Room:
    """Bytes. None: there is no such thing, or no limit."""

    store: Path
    folder: Path
    """The store, or the nearest folder above it that is there."""
    kind: str
    """Its file system: 'ext4', 'nfs4', 'tmpfs', 'overlay'; '' if it can't be told."""
    writable: bool
    free: int
    total: int
    inodes: int | None
    """Files that can still be made; None where the file system doesn't count them."""
    shm_free: int | None
    """None: there is no /dev/shm that can be written, so dumps go through the store's disk."""
    shm_total: int | None
    available: int
    """Memory that may be had without pushing anything out, as the kernel and the cgroup have it."""
    memory_limit: int | None
    """The cgroup's."""
    file_limit: int | None
    """ulimit -f."""
    lock_limit: int | None
    """ulimit -l."""


def look_round(machine: Machine, store: Path) -> Room:
    """Look how much room there is. Raises OSError: the store's place can't be looked at."""
    folder = store.absolute()
    while not folder.exists():
        folder = folder.parent
    disk = os.statvfs(folder)
    shm = machine.path(SHM)
    usable = shm.is_dir() and os.access(shm, os.W_OK | os.X_OK)
    memory = os.statvfs(shm) if usable else None
    limit, used = _cgroup(machine)
    available = _memory_available(machine)
    return Room(
        store=store.absolute(),
        folder=folder,
        kind=filesystem(machine, folder),
        writable=os.access(folder, os.W_OK | os.X_OK),
        free=disk.f_bavail * disk.f_frsize,
        total=disk.f_blocks * disk.f_frsize,
        inodes=disk.f_favail if disk.f_files else None,
        shm_free=memory.f_bavail * memory.f_frsize if memory else None,
        shm_total=memory.f_blocks * memory.f_frsize if memory else None,
        available=available if limit is None else max(0, min(available, limit - used)),
        memory_limit=limit,
        file_limit=_ulimit(resource.RLIMIT_FSIZE),
        lock_limit=_ulimit(resource.RLIMIT_MEMLOCK),
    )


def _ulimit(which: int) -> int | None:
    soft = resource.getrlimit(which)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _memory_available(machine: Machine) -> int:
    for line in machine.read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return 0


def own_cgroups(machine: Machine) -> dict[str, str]:
    """Controllers (of version 2: '') and the path of this process's cgroup for each."""
    found = {}
    for line in machine.read("/proc/self/cgroup").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        for name in names.split(","):
            found[name] = path or "/"
    return found


def _cgroup(machine: Machine) -> tuple[int | None, int]:
    """(the tightest limit on memory here and above, what is used of it without what can be dropped)."""
    own = own_cgroups(machine)
    two = "memory" not in own
    base = "/sys/fs/cgroup" if two else "/sys/fs/cgroup/memory"
    limit_name = "memory.max" if two else "memory.limit_in_bytes"
    use_name = "memory.current" if two else "memory.usage_in_bytes"
    path = PurePosixPath(own.get("" if two else "memory", "/"))
    tightest: tuple[int, int] | None = None
    # In a container the path may be the one outside: then only the top is there.
    for place in (path, *path.parents):
        folder = f"{base}/{str(place).lstrip('/')}".rstrip("/")
        limit = machine.number(f"{folder}/{limit_name}")
        if limit is None or limit >= _UNLIMITED:
            continue
        used = (machine.number(f"{folder}/{use_name}") or 0) - _droppable(machine, folder)
        if tightest is None or limit - used < tightest[0] - tightest[1]:
            tightest = (limit, max(0, used))
    return tightest or (None, 0)


def _droppable(machine: Machine, folder: str) -> int:
    """Bytes of the page cache that are given up when memory is asked for."""
    for line in machine.read(f"{folder}/memory.stat").splitlines():
        name, _, count = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and count.isdigit():
            return int(count)
    return 0


def filesystem(machine: Machine, folder: Path) -> str:
    """The type of the file system that a folder is on, as /proc/self/mountinfo names it; '' if it doesn't."""
    best, kind = -1, ""
    place = os.path.realpath(folder)
    for line in machine.read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        words, names = before.split(), after.split()
        if len(words) < 5 or not names:
            continue
        point = words[4].encode().decode("unicode_escape")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:  # of two at one point the later one is on top
            best, kind = len(point), names[0]
    return kind

"""Whether a job's state finds room: findings on what ckptd.doctor.room has seen."""

from __future__ import annotations

import math

from ckptd.doctor.findings import LOSES, WARNS, Finding
from ckptd.doctor.place import Place
from ckptd.doctor.room import NETWORK, SHM, Room
from ckptd.doctor.size import Size
from ckptd.store.quantity import bytes_text

KEPT = 3
"""Checkpoints that stay where no --keep flag says otherwise."""
TOO_LARGE = WARNS
"""What it means that there is no memory for a copy: it goes to the disk at once (docs/speed.md)."""
SPILLED = "so it goes to the disk at once, and training stands still for as long as that takes"
READY_SHARE = 0.5
READY_SPARE = 32 << 20
"""The agent makes memory ready for a dump if it takes no more than that part of what is to be had then (bytes more
for what can't be known ahead): ckptd_agent.rooms."""
LIMIT = 0.8
"""A dump takes that part of what is to be had at most: ckptd_agent.rooms."""
DOCKER_SHM = 64 << 20
"""Bytes of a container's /dev/shm where nobody has said anything."""


def fits(room: Room, size: Size) -> tuple[bool, bool]:
    """Whether the state has room (in memory, on the disk)."""
    shared = room.free if room.shm_free is None else room.shm_free
    memory = min(LIMIT * room.available, shared) >= size.nbytes
    return memory, room.writable and (size.checkpoints > 0 or room.free >= size.nbytes)


def made_ready(room: Room) -> int:
    """Bytes of the largest state for which memory is made ready ahead, beside a program that holds it once itself."""
    return max(0, int(READY_SHARE * room.available / (1 + READY_SHARE)) - READY_SPARE)


def space_findings(room: Room, size: Size | None, place: Place, remote: bool) -> list[Finding]:
    """What there is no room for; less can be said where the size is not known."""
    return [
        *_store(room, size),
        *_outlives(room, place, remote),
        *_shared(room, size, place),
        *(_memory(room, size) if size else []),
        *(_files(room, size) if size else []),
    ]


def _store(room: Room, size: Size | None) -> list[Finding]:
    if not room.writable:
        text = f"{room.folder} can't be written, so nothing can be kept there"
        return [Finding("store", LOSES, text, "ckptd run --store DIR -- CMD")]
    if room.inodes == 0:
        return [Finding("store", LOSES, f"the disk of {room.folder} takes no more files", "ckptd prune")]
    if size is None:
        return []
    free, need = bytes_text(room.free), bytes_text(size.nbytes)
    if room.free < size.nbytes and not size.checkpoints:
        text = f"a checkpoint of {need} doesn't fit: {free} are free in {room.store}"
        return [Finding("store's room", LOSES, text, "ckptd run --store DIR -- CMD")]
    wanted = max(1, KEPT + 1 - size.checkpoints) * size.nbytes
    if room.free < wanted:
        text = (
            f"{free} are free in {room.store}, the newest {KEPT} checkpoints and the next one may need "
            f"{bytes_text(wanted)} more: older ones are removed as the disk fills"
        )
        return [Finding("store's room", WARNS, text, "ckptd run --keep-last 1 -- CMD")]
    return []


def _outlives(room: Room, place: Place, remote: bool) -> list[Finding]:
    """Whether the store's disk is still there when the job is started again."""
    if remote or room.kind in NETWORK or room.kind.startswith("fuse."):
        return []
    line = "ckptd run --remote s3://BUCKET/FOLDER -- CMD"
    if room.kind in ("tmpfs", "ramfs"):
        text = f"the store {room.store} is in memory ({room.kind}): it is gone with the next reboot"
        return [Finding("store's disk", LOSES, text, "ckptd run --store DIR -- CMD")]
    if place.kubernetes:
        severity = LOSES if room.kind == "overlay" else WARNS
        where = "in the container itself" if room.kind == "overlay" else f"on a volume ({room.kind})"
        text = f"the store {room.store} is {where}; only a persistent volume or a remote outlives the pod"
        return [Finding("store's disk", severity, text, line)]
    if place.container and room.kind == "overlay":
        text = f"the store {room.store} is in the container itself and is removed with it"
        return [Finding("store's disk", WARNS, text, f"docker run -v /srv/ckptd:{room.store} IMAGE")]
    if place.cloud:
        text = f"the store {room.store} is on a disk of this machine, and may go with it when {place.cloud} takes it"
        return [Finding("store's disk", WARNS, text, line)]
    return []


def _shared(room: Room, size: Size | None, place: Place) -> list[Finding]:
    if room.shm_free is None or room.shm_total is None:
        text = f"{SHM} can't be written: a dump goes to the store's disk while training stands still for it"
        return [Finding(SHM, WARNS, text, f"mount -t tmpfs tmpfs {SHM}")]
    line = _larger(size.nbytes if size else 0, room, place)
    if size is not None and room.shm_free < size.nbytes:
        text = (
            f"the state of {bytes_text(size.nbytes)} doesn't fit into {SHM}: {bytes_text(room.shm_free)} of "
            f"{bytes_text(room.shm_total)} are free, {SPILLED}"
        )
        return [Finding(SHM, TOO_LARGE, text, line)]
    if size is None and room.shm_total <= DOCKER_SHM:
        text = f"{SHM} holds {bytes_text(room.shm_total)}, which is Docker's default: few states fit into it"
        return [Finding(SHM, WARNS, text, line)]
    return []


def _larger(nbytes: int, room: Room, place: Place) -> str:
    """The line that makes /dev/shm large enough."""
    wanted = 2 * nbytes or max(room.available // 2, DOCKER_SHM)
    giga = math.ceil(wanted / (1 << 30))
    if place.kubernetes:
        return (
            f"volumes: [{{name: shm, emptyDir: {{medium: Memory, sizeLimit: {giga}Gi}}}}], mounted at {SHM}"
        )
    return f"docker run --shm-size={giga}g" if place.container else f"mount -o remount,size={giga}G {SHM}"


def _memory(room: Room, size: Size) -> list[Finding]:
    need, have = bytes_text(size.nbytes), bytes_text(room.available)
    limit = f" (limit of the cgroup: {bytes_text(room.memory_limit)})" if room.memory_limit else ""
    line = (
        f"MemoryMax={math.ceil(3 * size.nbytes / 1e9)}G, docker run --memory, or sbatch --mem"
        if room.memory_limit
        else ""
    )
    if LIMIT * room.available < size.nbytes:
        text = f"{have} of memory are to be had{limit}; the copy of the state takes {need}, {SPILLED}"
        return [Finding("memory", TOO_LARGE, text, line)]
    if room.available < 2 * size.nbytes:
        text = (
            f"{have} of memory are to be had{limit}: the state of a program on the CPU and its copy take "
            f"{bytes_text(2 * size.nbytes)}; one on a GPU needs the copy alone"
        )
        return [Finding("memory", WARNS, text, line)]
    return []


def _files(room: Room, size: Size) -> list[Finding]:
    if room.file_limit is not None and room.file_limit < size.nbytes:
        limit = bytes_text(room.file_limit)
        text = (
            f"no file may be longer than {limit} (ulimit -f), and the state takes {bytes_text(size.nbytes)}"
        )
        return [Finding("ulimit -f", LOSES, text, "ulimit -f unlimited")]
    return []

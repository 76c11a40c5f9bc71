"""What a process does with a store, over and over, saying each thing as soon as it is durable.

The contents of each checkpoint follow from its step, so that whoever reads it can tell whether they are right.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgpack

from ckptd.daemon.places import SegmentFolder
from ckptd.daemon.writer import discard_earlier, set_aside
from ckptd.memory.room import Room
from ckptd.memory.segment import Segment, SegmentWriter, arrange
from ckptd.store import early, index, layout, packing, removal
from ckptd.store.draft import Way
from ckptd.store.job import JobRecord
from ckptd.store.known import Known
from ckptd.store.leftovers import prune_job
from ckptd.store.lock import JobLock
from ckptd.store.manifest import FORMAT, Manifest
from ckptd.store.pins import read_mark, write_mark
from ckptd.store.reader import newest_valid
from ckptd.store.retention import Mark, Policy
from ckptd.store.sweep import sweep
from ckptd.store.transfer import copy_checkpoint
from ckptd.store.writer import begin_early, write_checkpoint

JOB = "0123abcd"
_PERIODS = [("frozen", "F32", 24_000, 10**12), ("slow", "F32", 9000, 4), ("tick", "I64", 64, 1),
            ("fast", "U8", 13_001, 1), ("norm", "F32", 4, 2)]  # fmt: skip
"""Storages: name, type, bytes, and after how many steps they change."""

Say = Callable[[str], None]


def write_small() -> None:
    """Have this process write in small pieces, so that a dump is many writes, and begin early with little."""
    early.LEAST = 1
    packing.CHUNK = 4096


def contents(step: int) -> dict[str, bytes]:
    """The bytes of all storages at a step."""
    return {name: _bytes(f"{name} {step // period}", size) for name, _, size, period in _PERIODS}


def _bytes(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def graph(step: int) -> bytes:
    """The graph at a step."""
    text = _bytes(f"graph {step}", 500 + step % 7 * 900).hex()
    data: bytes = msgpack.packb({"version": 1, "nodes": [["value", step, text]]})
    return data


@dataclass(frozen=True)
class Setting:
    """Where a process works."""

    store: Path
    other: Path
    """A second store, which checkpoints are copied to."""
    shm: Path
    """In the place of /dev/shm."""

    @property
    def folder(self) -> layout.JobFolder:
        """The one job of the store."""
        return layout.JobFolder(self.store / layout.JOBS / JOB)


class Work:
    """One process's life, from its start to the kill."""

    def __init__(self, setting: Setting, chance: random.Random, say: Say) -> None:
        self._setting, self._chance, self._say = setting, chance, say
        store = layout.open_store(setting.store)
        self._other = layout.open_store(setting.other)
        self.folder = store.job(JOB)
        self._lock = JobLock(self.folder)
        self._lock.acquire()
        sweep(self.folder)
        self._segments = SegmentFolder("torture", self.folder.path / "segments", setting.shm)
        if not (self.folder.path / layout.JOB_FILE).exists():
            self.folder.save(JobRecord(JOB, "torture", ["train.py"], "/", time.time()))
        self._way = Way(Known(), squeeze=chance.random() < 0.3)
        found = newest_valid(self.folder)
        self._step = found.manifest.step if found else 0
        self._newest = found.path if found else None
        if found:
            self._way.known.trust(found.path, found.manifest)

    def go_on(self, rounds: int = 10**9) -> None:
        """Do one thing after another."""
        others = [self.forget, self.prune, self.pin, self.unpin, self.record, self.rewrite, self.copy]
        for _ in range(rounds):
            self.commit()
            if self._chance.random() < 0.7:
                self.retain()
            self._chance.choice(others)()
            if self._chance.random() < 0.05:
                self.begin_anew()

    def close(self) -> None:
        """End without being killed."""
        self._segments.close()
        self._lock.release()

    def commit(self) -> None:
        """Dump, and make it durable."""
        self._step += self._chance.randrange(1, 3)
        path = self._dump()
        manifest = Manifest(
            format=FORMAT, id=layout.new_id(), job=JOB, name="torture", step=self._step, created=time.time(),
            reason="periodic", attempt=1, host="here", files=[],
        )  # fmt: skip
        with Segment(path) as segment:
            draft = None
            if self._chance.random() < 0.5:  # as when it is to leave, and the disk begins with what is copied
                draft = begin_early(self.folder, segment, manifest.id, self._way, lambda: False)
            if draft is not None and self._chance.random() < 0.2:  # whoever copied it was killed
                draft.drop()
                draft = None
            self._newest, _ = write_checkpoint(self.folder, segment, manifest, self._way, draft)
        self._say(f"committed {self._newest.name}")
        path.unlink()
        if self._chance.random() < 0.2:
            self._way.known.forget()

    def _dump(self) -> Path:
        """What the agent does."""
        own = contents(self._step)
        tensors = arrange([(name, kind, size) for name, kind, size, _ in _PERIODS])
        path = self._segments.path / f"dump-{self._step}"
        writer = SegmentWriter(
            Room(path), tensors, graph(self._step), {"loss": 1 / self._step, "argv": ["t.py"]}
        )
        for tensor in tensors:
            writer.put(tensor.offset, own[tensor.name])
        writer.finish()
        return path

    def retain(self) -> None:
        """What follows a commit."""
        assert self._newest is not None
        discard_earlier(self.folder)
        removal.retain(self.folder, Policy(last=3, every_steps=40), self._newest, 0)

    def forget(self) -> None:
        """``ckptd forget --keep-last 2``."""
        entries = index.entries(self.folder)
        whole = removal.newest_whole(entries)
        removal.forget(self.folder, Policy(last=2), removal.plan(self.folder, Policy(last=2)), whole)

    def prune(self) -> None:
        """``ckptd prune``."""
        prune_job(self.folder)

    def pin(self) -> None:
        """``ckptd pin``."""
        path = self._any()
        write_mark(path, Mark(pinned=True, tags=("kept",)))
        self._say(f"pinned {path.name}")

    def unpin(self) -> None:
        """``ckptd pin --remove``, so that there are never many."""
        pinned = [entry.path for entry in index.entries(self.folder) if read_mark(entry.path).pinned]
        for path in pinned[:-1]:
            self._say(f"unpinned {path.name}")
            write_mark(path, Mark())

    def _any(self) -> Path:
        return self._chance.choice(index.entries(self.folder)).path

    def record(self) -> None:
        """What the supervisor does at each turn."""
        self.folder.save(replace(self.folder.load(), extra={"step": self._step}, updated=time.time()))

    def rewrite(self) -> None:
        """The cache for listings, without what is gone."""
        index.rewrite(self.folder, index.entries(self.folder))

    def copy(self) -> None:
        """``ckptd copy latest``; of the copies one stays."""
        assert self._newest is not None
        copied = copy_checkpoint(self.folder, self._newest, self._other).path
        self._say(f"copied {copied.name}")
        target = self._other.job(JOB)
        old = [entry.path for entry in index.entries(target) if entry.path != copied]
        removal.remove(target, old)

    def begin_anew(self) -> None:
        """``ckptd run --fresh``: what there was may go once something new is there."""
        self._say("aside")
        set_aside(self.folder)
        self._way.known.forget()


def say_to(fd: int) -> Say:
    """Lines into a descriptor, each at once."""

    def say(line: str) -> None:
        os.write(fd, line.encode() + b"\n")

    return say

"""Work that may wait for a disk, done in threads so that the loop never does."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ckptd import __version__
from ckptd.daemon.resume import Base, find_base
from ckptd.errors import CkptdError, DumpFailedError, NoStoreError
from ckptd.memory.segment import Segment
from ckptd.store import disk, layout, removal
from ckptd.store.environment import shown
from ckptd.store.hold import Hold
from ckptd.store.known import Known
from ckptd.store.leftovers import EARLIER
from ckptd.store.manifest import FORMAT, Manifest
from ckptd.store.quantity import bytes_text
from ckptd.store.retention import Policy
from ckptd.store.seen import Seen
from ckptd.store.spilled import FOLDER
from ckptd.store.writer import NoRoomError, Way, write_checkpoint


@dataclass(frozen=True)
class Done:
    """One piece of work is over."""

    tag: str
    value: object = None
    error: Exception | None = None


class Worker:
    """A thread that does one thing after another and reports each to the loop through ``fileno()``."""

    def __init__(self, name: str) -> None:
        self._todo: queue.SimpleQueue[tuple[str, Callable[[], object]] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        # A daemon thread: a disk that hangs must not keep ckptd from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable when something is done."""
        return self._read

    def submit(self, tag: str, work: Callable[[], object]) -> None:
        """Have ``work`` done; its result or error comes back under ``tag``."""
        self._todo.put((tag, work))

    def results(self) -> list[Done]:
        """What has been done since the last call, without waiting."""
        try:
            while os.read(self._read, 4096):
                pass
        except BlockingIOError:
            pass  # emptied: the usual case
        found: list[Done] = []
        while not self._done.empty():
            found.append(self._done.get())
        return found

    def close(self, wait: float) -> bool:
        """Do what was submitted, then end the thread; False if that took longer than ``wait`` seconds."""
        self._todo.put(None)
        self._thread.join(wait)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._todo.get()) is not None:
            tag, work = item
            try:
                done = Done(tag, work())
            except Exception as error:  # noqa: BLE001 - whatever it is, the loop decides
                done = Done(tag, error=error)
            self._done.put(done)
            try:
                os.write(self._write, b".")
            except BlockingIOError:
                continue  # the pipe is full of wake-ups already


@dataclass(frozen=True)
class Saving:
    """A complete segment on its way to the store."""

    dump: str
    segment: Path
    step: int
    reason: str
    attempt: int
    seconds: float
    """How long training stood still."""
    leave: bool
    """The process was asked to leave before the copy was complete."""


@dataclass(frozen=True)
class Committed:
    """It is durable."""

    saving: Saving
    path: Path
    manifest: Manifest
    said: str = ""
    """What the user must read: older checkpoints had to go for it."""


@dataclass(frozen=True)
class MemoryCopy:
    """A segment that was committed and is still there."""

    segment: Path
    dump: str
    checkpoint: Path


_KEEP = Policy(last=3)


class Writer(Worker):
    """Writes checkpoints of one job, one at a time, and removes those that the policy lets go."""

    def __init__(
        self,
        folder: layout.JobFolder,
        name: str,
        policy: Policy = _KEEP,
        *,
        squeeze: bool = False,
        remember: bool = True,
    ) -> None:
        """``remember``: segments lie in memory, so that the one that was saved last is worth keeping."""
        super().__init__("ckptd-writer")
        self._folder = folder
        self._seen = Seen(folder)
        self._name = name
        self._policy = policy
        self._hurry = threading.Event()
        self._way = Way(Known(), squeeze=squeeze, hurried=self._hurry.is_set)
        self._base = Base()
        """What the next checkpoint comes from."""
        self._held: Hold | None = None
        self._committed: Committed | None = None
        self._remember = remember
        self.memory: MemoryCopy | None = None
        """The newest checkpoint's copy in memory. Its room may be in use for the next dump meanwhile."""
        self._warned = False

    def find_base(self, allow_changed: bool, from_step: int | None, *, read: bool = True) -> None:
        """Find out from where to go on; ``read``: verify all of it. Done('base', a Base or an error)."""
        self.submit("base", lambda: self._find_base(allow_changed, from_step, read))

    def trust(self, base: Base) -> None:
        """A process has read every byte of the checkpoint, and found it right. Done('trusted')."""
        self.submit("trusted", lambda: self._trust(base))

    def save(self, saving: Saving) -> None:
        """Write a segment; it stays if that worked. Done('saved:DUMP', Committed or an error)."""
        if saving.leave:
            self._hurry.set()  # for what is being written now, too
        self.submit(f"saved:{saving.dump}", lambda: self._save(saving))

    def retain(self) -> None:
        """Remove what the policy lets go, and make room for the next. Done('retained', sentences to say)."""
        self.submit("retained", self._retain)

    def _find_base(self, allow_changed: bool, from_step: int | None, read: bool) -> Base:
        # Once the job has committed something of its own after --from, that is what a relaunch goes on from.
        step = from_step if self._committed is None else None
        base = find_base(self._folder, allow_changed, step, read=read)
        if self.memory is not None and self.memory.checkpoint == base.path:
            base = replace(base, memory=self.memory.segment)
        self._base = base
        self._hold(base.path)
        if read:
            self._trust(base)
        elif base.path is None or base.path != self._way.known.path:
            self._way.known.forget()
        return base

    def _trust(self, base: Base) -> None:
        if base.path is None or base.manifest is None:
            self._way.known.forget()
        elif base.path != self._way.known.path and self._base.path == base.path:
            self._way.known.trust(base.path, base.manifest)

    def _hold(self, path: Path | None) -> None:
        """Keep others from removing what the job is resumed from, until it has committed past it."""
        if self._held is not None:
            self._held.release()
        self._held = Hold(path) if path is not None else None

    def _save(self, saving: Saving) -> Committed:
        kept, spilled = False, ""
        try:
            with Segment(saving.segment) as segment:
                spilled = segment.index.spill.file if segment.index.spill is not None else ""
                committed = self._commit(saving, segment)
                kept = self._remember and segment.index.spill is None
        except CkptdError:
            raise
        except Exception as error:
            raise DumpFailedError(f"the dump can't be stored: {type(error).__name__}: {error}") from error
        finally:
            if not kept:
                saving.segment.unlink(missing_ok=True)
            if spilled and Path(spilled).parent == self._folder.path / FOLDER:
                Path(spilled).unlink(missing_ok=True)  # unless it is part of the checkpoint now
            if saving.leave:
                self._hurry.clear()
        if kept:
            self._keep_in_memory(MemoryCopy(saving.segment, saving.dump, committed.path))
        self._committed = committed
        self._base = replace(self._base, path=committed.path, manifest=committed.manifest)
        self._hold(None)
        return committed

    def _keep_in_memory(self, copy: MemoryCopy) -> None:
        """One copy is enough: let an older one go that lies elsewhere."""
        old, self.memory = self.memory, copy
        if old is not None and old.segment != copy.segment:
            old.segment.unlink(missing_ok=True)

    def _commit(self, saving: Saving, segment: Segment) -> Committed:
        """Write it; where the disk is full make room, and try once more."""
        try:
            return Committed(
                saving, *write_checkpoint(self._folder, segment, self._manifest(saving), self._way)
            )
        except NoRoomError as error:
            try:
                freed = removal.make_room(self._folder, self._policy, self._base.path, error.needed)
            except NoStoreError as more:
                raise error from more  # that there is no room is what the user has to know
            if not freed.gone:
                raise
        path, manifest = write_checkpoint(self._folder, segment, self._manifest(saving), self._way)
        return Committed(saving, path, manifest, f"the disk was full: removed {_names(freed.gone)}")

    def _manifest(self, saving: Saving) -> Manifest:
        base = self._base.manifest
        branch, branch_step = self._base.branch
        return Manifest(
            format=FORMAT, id=layout.new_id(), job=self._folder.id, name=self._name, step=saving.step,
            created=time.time(), reason=saving.reason, attempt=saving.attempt, files=[],
            host=socket.gethostname(), parent=base.id if base else "", branch=branch, branch_step=branch_step,
            facts={"environment": shown(os.environ), "ckptd": __version__},
        )  # fmt: skip

    def _retain(self) -> list[str]:
        discard_earlier(self._folder)
        if self._committed is None:
            return []
        manifest = self._committed.manifest
        needed = int(removal.SPARE * manifest.written) + _HEADROOM
        done = removal.retain(self._folder, self._policy, self._committed.path, needed, self._seen)
        said = []
        if done.room:
            said.append(
                f"the disk runs low: removed {_names(done.room)} to have room for the next checkpoint"
            )
        if done.missing and not self._warned:
            said.append(
                f"the disk runs low: the next checkpoint may need {bytes_text(needed)}, "
                f"{bytes_text(max(0, needed - done.missing))} are free in {self._folder.path}; make room there"
            )
        self._warned = done.missing > 0
        return said


_HEADROOM = 1 << 16
"""Bytes for what else is written: the manifest, the record, folders."""


def _names(paths: list[Path]) -> str:
    """Checkpoints that are gone, by their steps."""
    steps = [str(int(path.name.partition("-")[0])) for path in paths]
    more = len(steps) - 3
    listed = ", ".join(steps[:3]) + (f" and {more} more" if more > 0 else "")
    return f"the checkpoint{'s' if len(steps) > 1 else ''} at step {listed}"


def set_aside(folder: layout.JobFolder) -> None:
    """Begin anew: put the checkpoints of the last run where no resume looks.

    They are removed after the new run's first commit, so that up to then ``--fresh`` loses nothing.
    Raises CkptdError.
    """
    try:
        if not any(folder.checkpoints.iterdir()):
            return
        folder.checkpoints.rename(folder.path / f"{EARLIER}{layout.new_id()}")
        disk.sync_folder(folder.path)
        folder.make()
    except FileNotFoundError:
        return  # never had any
    except OSError as error:
        raise NoStoreError(
            f"can't set the old checkpoints in {folder.checkpoints} aside ({disk.reason(error)})"
        ) from error


def discard_earlier(folder: layout.JobFolder) -> None:
    """Remove what set_aside put aside."""
    for path in folder.path.glob(f"{EARLIER}*"):
        disk.remove_folder(path)

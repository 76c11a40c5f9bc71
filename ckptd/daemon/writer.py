"""Writes a job's checkpoints, in a thread of its own."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ckptd import __version__
from ckptd.daemon.resume import Base, find_base
from ckptd.daemon.worker import Worker
from ckptd.errors import CkptdError, DumpFailedError, NoStoreError
from ckptd.memory.segment import MAGIC, Segment
from ckptd.store import disk, layout, removal
from ckptd.store.draft import Draft, Way
from ckptd.store.environment import shown
from ckptd.store.hold import Hold
from ckptd.store.known import Known
from ckptd.store.leftovers import EARLIER
from ckptd.store.manifest import FORMAT, Manifest
from ckptd.store.quantity import bytes_text
from ckptd.store.resting import Resting
from ckptd.store.retention import Policy
from ckptd.store.seen import Seen
from ckptd.store.spilled import FOLDER
from ckptd.store.writer import NoRoomError, begin_early, write_checkpoint


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
    rest: float = 0.0
    """Seconds that its writing may rest in all, so that training goes on at its pace."""


@dataclass(frozen=True)
class Committed:
    """It is durable."""

    saving: Saving
    path: Path
    manifest: Manifest
    said: str = ""
    """What the user must read: older checkpoints had to go for it."""
    rested: float = 0.0
    """Seconds of the time that it took."""


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
        self._followed_to: dict[str, tuple[Segment, Draft | None]] = {}
        """By dump: the segment, and what is written of it already."""
        self._mapped: list[Segment] = []
        self._following: list[threading.Event] = []
        """Of each copy that is followed: set once it may not come to its end."""
        self.memory: MemoryCopy | None = None
        """The newest checkpoint's copy in memory. Its room may be in use for the next dump meanwhile."""
        self._warned = False

    def find_base(self, allow_changed: bool, from_step: int | None, *, read: bool = True) -> None:
        """Find out from where to go on; ``read``: verify all of it. Done('base', a Base or an error)."""
        self.submit("base", lambda: self._find_base(allow_changed, from_step, read))

    def trust(self, base: Base) -> None:
        """A process has read every byte of the checkpoint, and found it right. Done('trusted')."""
        self.submit("trusted", lambda: self._trust(base))

    def hurry(self) -> None:
        """Somebody waits for what is being written, or for what comes behind it."""
        self._hurry.set()

    def calm(self) -> None:
        """Nobody does any longer."""
        self._hurry.clear()

    def follow(self, dump: str, segment: Path) -> None:
        """Write what is there of a dump to leave with, while it is copied. Done('followed', None)."""
        given_up = threading.Event()
        self._following.append(given_up)
        self.submit("followed", lambda: self._follow(dump, segment, given_up.is_set))

    def give_up(self) -> None:
        """Nobody copies any longer. What was copied completely is still written."""
        for event in self._following:
            event.set()
        self._following.clear()

    def save(self, saving: Saving) -> None:
        """Write a segment; it stays if that worked. Done('saved:DUMP', Committed or an error)."""
        if saving.leave:
            self.hurry()
        self.submit(f"saved:{saving.dump}", lambda: self._save(saving))

    def retain(self) -> None:
        """Remove what the policy lets go, and make room for the next. Done('retained', sentences to say)."""
        self.submit("retained", self._retain)

    def _find_base(self, allow_changed: bool, from_step: int | None, read: bool) -> Base:
        self._unmap()
        self._drop_drafts()
        self.calm()
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

    def close(self, wait: float) -> bool:
        """As a Worker's; nothing is waited for that may never come."""
        self.hurry()
        self.give_up()
        self.submit("dropped", self._drop_drafts)
        return super().close(wait)

    def _follow(self, dump: str, segment: Path, given_up: Callable[[], bool]) -> None:
        try:
            copying = Segment(segment, copying=True)
        except (CkptdError, OSError):
            return  # it is no longer there, or no longer being copied
        draft = begin_early(self._folder, copying, layout.new_id(), self._way, given_up)
        self._followed_to[dump] = copying, draft

    def _drop_drafts(self) -> None:
        """What was begun, and did not become a checkpoint."""
        for segment, draft in self._followed_to.values():
            segment.close()
            if draft is not None:
                draft.drop()
        self._followed_to.clear()

    def _save(self, saving: Saving) -> Committed:
        self._unmap()
        kept, spilled = False, ""
        try:
            segment, draft = self._open(saving)
            self._mapped.append(segment)
            spilled = segment.index.spill.file if segment.index.spill is not None else ""
            committed = self._commit(saving, segment, draft)
            kept = self._remember and segment.index.spill is None
        except CkptdError:
            raise
        except Exception as error:
            raise DumpFailedError(f"the dump can't be stored: {type(error).__name__}: {error}") from error
        finally:
            if not kept:
                saving.segment.unlink(missing_ok=True)
                self._unmap()  # its memory is needed
            if spilled and Path(spilled).parent == self._folder.path / FOLDER:
                Path(spilled).unlink(missing_ok=True)  # unless it is part of the checkpoint now
            if saving.leave:
                self.calm()
            self._drop_drafts()
        if kept:
            self._keep_in_memory(MemoryCopy(saving.segment, saving.dump, committed.path))
        self._committed = committed
        self._base = replace(self._base, path=committed.path, manifest=committed.manifest)
        self._hold(None)
        return committed

    def _unmap(self) -> None:
        """Let go of the segments that were read: it takes a tenth of the time of a write, so not before a commit."""
        for segment in self._mapped:
            with suppress(BufferError):  # an error that is still told of may hold a part of it
                segment.close()
        self._mapped.clear()

    def _open(self, saving: Saving) -> tuple[Segment, Draft | None]:
        """The segment, and what is written of it already. Raises DamagedError, OSError."""
        segment, draft = self._followed_to.get(saving.dump, (None, None))
        if segment is None or segment.path != saving.segment or segment.stage() != MAGIC:
            return Segment(saving.segment), None
        del self._followed_to[saving.dump]
        return segment, draft

    def _keep_in_memory(self, copy: MemoryCopy) -> None:
        """One copy is enough: let an older one go that lies elsewhere."""
        old, self.memory = self.memory, copy
        if old is not None and old.segment != copy.segment:
            old.segment.unlink(missing_ok=True)

    def _commit(self, saving: Saving, segment: Segment, draft: Draft | None) -> Committed:
        """Write it; where the disk is full make room, and try once more."""
        manifest = self._manifest(saving, draft.ident if draft is not None else layout.new_id())
        rest = Resting(saving.rest, self._hurry.is_set)
        way = replace(self._way, rest=rest if saving.rest else None)
        try:
            path, manifest = write_checkpoint(self._folder, segment, manifest, way, draft)
            return Committed(saving, path, manifest, rested=rest.taken)
        except NoRoomError as error:
            try:
                freed = removal.make_room(self._folder, self._policy, self._base.path, error.needed)
            except NoStoreError as more:
                raise error from more  # that there is no room is what the user has to know
            if not freed.gone:
                raise
        path, manifest = write_checkpoint(
            self._folder, segment, self._manifest(saving, layout.new_id()), self._way
        )
        return Committed(saving, path, manifest, f"the disk was full: removed {_names(freed.gone)}")

    def _manifest(self, saving: Saving, ident: str) -> Manifest:
        base = self._base.manifest
        branch, branch_step = self._base.branch
        return Manifest(
            format=FORMAT, id=ident, job=self._folder.id, name=self._name, step=saving.step,
            created=time.time(), reason=saving.reason, attempt=saving.attempt, files=[],
            host=socket.gethostname(), parent=base.id if base else "", branch=branch, branch_step=branch_step,
            facts={"environment": shown(os.environ), "ckptd": __version__},
        )  # fmt: skip

    def _retain(self) -> list[str]:
        self._unmap()
        self._way.known.read()
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

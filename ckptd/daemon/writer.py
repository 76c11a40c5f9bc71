"""Work that may wait for a disk, done in threads so that the loop never does."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ckptd.errors import CkptdError, DumpFailedError, NoStoreError
from ckptd.memory.segment import Segment
from ckptd.store import disk, layout, retention
from ckptd.store.manifest import FORMAT, Manifest
from ckptd.store.writer import write_checkpoint


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


class Writer(Worker):
    """Writes checkpoints of one job, one at a time, and removes the oldest."""

    def __init__(self, folder: layout.JobFolder, name: str, keep_last: int) -> None:
        super().__init__("ckptd-writer")
        self._folder = folder
        self._name = name
        self._keep = keep_last

    def save(self, saving: Saving) -> None:
        """Write a segment, and remove it in any case. Done('saved:DUMP', Committed or an error)."""
        self.submit(f"saved:{saving.dump}", lambda: self._save(saving))

    def retain(self) -> None:
        """Remove checkpoints beyond the newest few, and those of a run before this one. Done('retained')."""
        self.submit("retained", self._retain)

    def _save(self, saving: Saving) -> Committed:
        try:
            with Segment(saving.segment) as segment:
                path, manifest = write_checkpoint(self._folder, segment, self._manifest(saving))
        except CkptdError:
            raise
        except Exception as error:
            raise DumpFailedError(f"the dump can't be stored: {type(error).__name__}: {error}") from error
        finally:
            saving.segment.unlink(missing_ok=True)
        return Committed(saving, path, manifest)

    def _manifest(self, saving: Saving) -> Manifest:
        return Manifest(
            format=FORMAT, id=layout.new_id(), job=self._folder.id, name=self._name, step=saving.step,
            created=time.time(), reason=saving.reason, attempt=saving.attempt, files=[],
            host=socket.gethostname(),
        )  # fmt: skip

    def _retain(self) -> None:
        discard_earlier(self._folder)
        retention.keep_last(self._folder, self._keep)


EARLIER = "earlier-"
"""Folders of a job beside ``checkpoints``: checkpoints of a run before the present one."""


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

"""From a segment in memory to a checkpoint on the disk: data first, the name last. See docs/format.md."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ckptd.errors import DumpFailedError
from ckptd.memory.segment import Segment
from ckptd.store import disk, early, index
from ckptd.store.draft import Draft, Way
from ckptd.store.environment import masked
from ckptd.store.known import Known
from ckptd.store.layout import JobFolder
from ckptd.store.manifest import MANIFEST, Manifest, encode
from ckptd.store.quantity import bytes_text
from ckptd.store.tensorfile import make_head


class NoRoomError(DumpFailedError):
    """The disk is full, or the user's quota used up. ``needed``: bytes."""

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message)
        self.needed = needed


def begin_early(
    folder: JobFolder, segment: Segment, ident: str, way: Way, given_up: Callable[[], bool]
) -> Draft | None:
    """Write what can be written of a dump that is still being copied, for ``write_checkpoint`` to go on with.

    None: there is nothing to be won, or it failed, and is to be tried anew with the whole dump.
    """
    if segment.data_nbytes < early.LEAST:
        return None
    draft = Draft(folder, ident, way, segment.data_nbytes)
    try:
        draft.begin()
        if draft.follow(segment, given_up):
            return draft
    except (OSError, ValueError, DumpFailedError):
        pass  # whoever writes the whole dump finds the same, and says so
    draft.drop()
    return None


def write_checkpoint(
    folder: JobFolder,
    segment: Segment,
    manifest: Manifest,
    way: Way | None = None,
    draft: Draft | None = None,
) -> tuple[Path, Manifest]:
    """Make a dump durable; returns the checkpoint's folder and its manifest.

    ``manifest`` says everything but the files; the segment's facts are added to its own. ``draft``: what of the same
    dump is written already, under the same id. Raises
    DumpFailedError (NoRoomError where room is all that is missing), after removing what was begun; older
    checkpoints are not touched.
    """
    if manifest.job != folder.id:
        raise ValueError(f"a checkpoint of job {manifest.job} doesn't belong into {folder.path}")
    way = way or Way(Known())
    manifest = replace(manifest, facts=_facts({**segment.index.facts, **manifest.facts}))
    final = folder.checkpoints / manifest.folder
    begun = draft is not None
    draft = draft or Draft(folder, manifest.id, way, segment.data_nbytes + segment.index.graph_nbytes)
    try:
        make_head(segment.index.tensors)  # raises ValueError if they overlap, or leave holes
        if not begun:
            draft.begin()
        try:
            manifest = draft.write(segment, manifest)
            _commit(draft.work, final, encode(manifest))
        except BaseException:
            draft.drop()
            raise
        finally:
            draft.close()
    except OSError as error:
        raise _failure(folder, error, draft.total) from error
    except ValueError as error:
        raise DumpFailedError(f"the dump can't be stored in {folder.path}: {error}") from error
    way.known.trust(final, manifest, way.known.checked())
    with suppress(OSError):  # listings are right without it
        index.add(folder, final, manifest)
    return final, manifest


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts as they may be stored: the command without secrets."""
    words = {key: masked(facts[key]) for key in ("argv", "orig_argv") if isinstance(facts.get(key), list)}
    return {**facts, **words}


def _commit(work: Path, final: Path, text: bytes) -> None:
    """The manifest, then the name. Raises OSError; the folder has its old name then."""
    fd = disk.create_file(work / MANIFEST)
    try:
        disk.write_all(fd, text)
        os.fsync(fd)
    finally:
        os.close(fd)
    publish(work, final)


def publish(work: Path, final: Path) -> None:
    """Give a complete work folder the name that makes it a checkpoint, durably.

    Raises OSError; the folder has its old name then.
    """
    disk.sync_folder(work)
    if final.exists():
        raise FileExistsError(errno.EEXIST, "a checkpoint of this step and id is there already", str(final))
    work.rename(final)
    try:
        disk.sync_folder(final.parent)
    except BaseException:
        final.rename(work)  # it may not last: then it is none
        raise


def _failure(folder: JobFolder, error: OSError, needed: int) -> DumpFailedError:
    """What went wrong, where, and the way out."""
    place, size = folder.checkpoints, bytes_text(needed)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        try:
            free = bytes_text(shutil.disk_usage(folder.path).free)
        except OSError:
            free = "less"
        full = "has no room left" if error.errno == errno.ENOSPC else "has used up your disk quota"
        return NoRoomError(
            f"{place} {full}: the checkpoint needs {size}, {free} free; make room or name another --store",
            needed,
        )
    if error.errno == errno.EFBIG:
        return DumpFailedError(
            f"a checkpoint of {size} in {place} is over the file size limit: raise it (ulimit -f)"
        )
    return DumpFailedError(
        f"can't write a checkpoint into {place}: {disk.reason(error)}; check it, or name another --store"
    )

"""Which checkpoints stay."""

from __future__ import annotations

import os
from pathlib import Path

from ckptd.errors import NoStoreError
from ckptd.store import disk
from ckptd.store.layout import WORK, JobFolder
from ckptd.store.reader import list_checkpoints


def keep_last(folder: JobFolder, n: int) -> list[Path]:
    """Remove all but the newest ``n`` checkpoints (at least 1); returns those that are gone.

    Damaged ones don't count: they go only once ``n`` good ones are newer than they. Raises NoStoreError.
    """
    if n < 1:
        raise ValueError("the newest checkpoint always stays: keep at least 1")
    listed = list_checkpoints(folder)
    good = [index for index, item in enumerate(listed) if item.manifest is not None]
    if len(good) < n:
        return []
    gone = [item.path for item in listed[: good[-n]]]
    _remove(folder, gone)
    return gone


def _remove(folder: JobFolder, paths: list[Path]) -> None:
    """Take their names away, durably, and only then their files: a kill in between leaves nothing torn."""
    try:
        trash = [path.rename(path.with_name(f"{WORK}{path.name}-{os.urandom(4).hex()}")) for path in paths]
        disk.sync_folder(folder.checkpoints)
    except OSError as error:
        raise NoStoreError(
            f"old checkpoints in {folder.checkpoints} can't be removed: {disk.reason(error)}"
        ) from error
    for path in trash:
        disk.remove_folder(path)  # what stays is swept by the next writer

"""Checkpoints in formats that others read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ckptd.errors import CkptdError, NoStoreError
from ckptd.store import disk
from ckptd.store.contents import read_contents
from ckptd.store.naming import Tree, short_names, spec
from ckptd.store.offline import ask
from ckptd.store.reader import OpenCheckpoint

FORMATS = ("safetensors", "torch", "dcp")


@dataclass(frozen=True)
class Exported:
    """What was written."""

    tensors: int
    nbytes: int
    left_out: dict[str, str]
    """Names of tensors, and why each is not in it."""


def export_checkpoint(
    path: Path, to: Path, kind: str, advance: Callable[[int], None] = lambda _: None
) -> Exported:
    """Write the tensors of the checkpoint ``path`` to ``to``; ``kind``: one of FORMATS.

    ``to`` is there as a whole or not at all. ``advance`` is called with bytes done. Raises CkptdError.
    """
    to = to.absolute()
    with OpenCheckpoint(path) as opened:
        manifest = opened.manifest
        contents = read_contents(opened)
        named = short_names(contents)
        part = to.with_name(f".tmp-{to.name}-{os.getpid()}")
        request = {
            "checkpoint": str(path), "to": str(part), "format": kind,
            "tensors": {name: spec(view) for name, view in named.items()},
            "tree": Tree(contents, named).build() if kind == "torch" else {},
            "metadata": {"format": "pt", "step": str(manifest.step), "checkpoint": manifest.id, "job": manifest.name},
        }  # fmt: skip
        left = {
            view.path: "it shares memory with another"
            for view in contents.tensors.values()
            if not view.storage
        }
        try:
            answer: dict[str, object] = {}
            for answer in ask("export", request):
                done = answer.get("done")
                if isinstance(done, int):
                    advance(done)
            if part.is_dir() and to.is_dir():
                shutil.rmtree(
                    to
                )  # an older export, as the caller has seen to: a folder replaces an empty one only
            part.replace(to)
            disk.sync_folder(to.parent)
        except OSError as error:
            raise NoStoreError(f"{to} can't be written: {disk.reason(error)}") from error
        finally:
            _discard(part)
    tensors, more = answer.get("tensors"), answer.get("left_out")
    if not isinstance(tensors, int) or not isinstance(more, dict):
        raise CkptdError(f"the process that writes {to} ended without saying what it did")
    nbytes = sum(view.nbytes for name, view in named.items() if name not in more)
    return Exported(tensors, nbytes, {**left, **more})


def _discard(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)

"""Copies what a capture found into a segment of shared memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from ckptd.memory.room import Room
from ckptd.memory.segment import ITEM_BYTES, SegmentWriter, Tensor, arrange
from ckptd_agent import rooms
from ckptd_agent.copying import Rest, address_of, copy
from ckptd_agent.device import active, behind
from ckptd_agent.graph.capture import Capture

Later = Callable[[float, Path | None, Exception | None], None]
"""Called when a copy is complete behind training, or has come to nothing: since when training went on
(time.monotonic()), the segment, the error. It is called on another thread, or at once if none can be started."""

_Told = Callable[[Path | None, Exception | None], None]

_aside = True
"""What lies on devices may be set aside there."""


def drain(
    capture: Capture,
    graph: bytes,
    facts: dict[str, Any],
    dump: str,
    begun: Callable[[Path], None] | None = None,
) -> Path:
    """Write a segment for the dump of that id. Returns its path.

    ``begun`` is called with that path when all of it but the storages is there. Where memory has no room for the
    storages, they go to the store's disk at once. Raises OSError if there is none.
    """
    path, _ = _drain(capture, graph, facts, dump, begun, behind=False)
    return path


def drain_behind(
    capture: Capture, graph: bytes, facts: dict[str, Any], dump: str, later: Later
) -> Path | None:
    """The same where training goes on: None if ``later`` will be told, because what lies on devices is still there."""
    path, rest = _drain(capture, graph, facts, dump, None, behind=_aside)
    if rest is None:
        return path
    behind.start(partial(rest, partial(later, monotonic())))
    return None


def _drain(
    capture: Capture,
    graph: bytes,
    facts: dict[str, Any],
    dump: str,
    begun: Callable[[Path], None] | None,
    *,
    behind: bool,
) -> tuple[Path, Callable[[_Told], None] | None]:
    """Where the segment is, and what completes it; None if it is complete."""
    tensors = arrange([(name, _dtype(obj, capture), _nbytes(obj)) for name, obj in capture.storages.items()])
    total = sum(tensor.nbytes for tensor in tensors) + len(graph)
    active.finish()
    room = rooms.take()
    try:
        rooms.demand(room, total)
        writer = SegmentWriter(room, tensors, graph, facts, dump)
        rest = _fill(writer, tensors, capture, begun, behind=behind)
    except OSError as error:
        rooms.let_go(room)
        if error.errno != errno.ENOSPC or "CKPTD_SPILL" not in os.environ:
            raise
        return _spill(capture, tensors, graph, facts, dump), None
    except BaseException:
        rooms.give_back(room)
        raise
    if rest is not None:
        return room.path, partial(_complete, rest, writer, dump)
    rooms.lend(room, dump)
    return room.path, None


def _fill(
    writer: SegmentWriter,
    tensors: list[Tensor],
    capture: Capture,
    begun: Callable[[Path], None] | None,
    *,
    behind: bool,
) -> Rest | None:
    """Copy all storages but for what can wait; if that fails, who reads along is told so. Raises OSError."""
    room = writer.room
    before, room.digests = room.digests, {}
    try:
        if begun is not None:
            begun(room.path)
        digests, rest = copy(capture, tensors, writer, before, behind=behind, again=begun is None)
        if rest is None:
            writer.finish()
    except BaseException:
        writer.void()
        raise
    room.digests = digests
    return rest


def _complete(rest: Rest, writer: SegmentWriter, dump: str, later: _Told) -> None:
    """Do what was left, on a thread behind training."""
    global _aside
    room = writer.room
    try:
        rest()
        writer.finish()
    except Exception as error:  # whatever goes wrong, the supervisor is answered and training goes on
        _aside = False  # from now on training waits for the copy
        try:
            writer.void()
            rooms.give_back(room)
        finally:
            later(None, error)
    else:
        rooms.lend(room, dump)
        later(room.path, None)


def _spill(capture: Capture, tensors: list[Tensor], graph: bytes, facts: dict[str, Any], dump: str) -> Path:
    """Storages to the disk, and a segment that says where they are."""
    from ckptd_agent.spill import spill

    addresses = {name: address for name, obj in capture.storages.items() if (address := address_of(obj))}
    placed, file = spill(capture.storages, tensors, addresses)
    for folder in (os.environ["CKPTD_SEGMENTS"], os.environ["CKPTD_SPILL"]):
        path = Path(folder) / f"{os.getpid()}-{os.urandom(4).hex()}.seg"
        room = Room(path)
        try:
            SegmentWriter(room, placed, graph, facts, dump, file).finish()
        except OSError:
            path.unlink(missing_ok=True)  # not even for the graph
        else:
            return path
        finally:
            room.close()
    Path(file.file).unlink(missing_ok=True)
    raise OSError(errno.ENOSPC, "no space left on device", os.environ["CKPTD_SPILL"])


def _nbytes(obj: Any) -> int:
    return int(obj.nbytes() if isinstance(obj, torch.UntypedStorage) else obj.nbytes)


def _dtype(obj: Any, capture: Capture) -> str:
    name = capture.dtypes.get(id(obj), "U8")
    return name if _nbytes(obj) % ITEM_BYTES[name] == 0 else "U8"

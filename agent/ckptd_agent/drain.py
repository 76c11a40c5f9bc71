"""Copies what a capture found into a segment of shared memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ckptd.memory.room import Room
from ckptd.memory.segment import ITEM_BYTES, SegmentWriter, Tensor, arrange
from ckptd_agent import rooms
from ckptd_agent.copying import Digests, address_of, copy
from ckptd_agent.graph.capture import Capture


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
    tensors = arrange([(name, _dtype(obj, capture), _nbytes(obj)) for name, obj in capture.storages.items()])
    total = sum(tensor.nbytes for tensor in tensors) + len(graph)
    room = rooms.take()
    try:
        rooms.demand(room, total)
        digests = _fill(SegmentWriter(room, tensors, graph, facts, dump), tensors, capture, begun)
        room.digests = digests
    except OSError as error:
        rooms.let_go(room)
        if error.errno != errno.ENOSPC or "CKPTD_SPILL" not in os.environ:
            raise
        return _spill(capture, tensors, graph, facts, dump)
    except BaseException:
        rooms.give_back(room)
        raise
    rooms.lend(room, dump)
    return room.path


def _fill(
    writer: SegmentWriter, tensors: list[Tensor], capture: Capture, begun: Callable[[Path], None] | None
) -> Digests:
    """Copy all storages; if that fails, who reads along is told so. Raises OSError."""
    room = writer.room
    before, room.digests = room.digests, {}
    try:
        if begun is not None:
            begun(room.path)
        digests = copy(capture, tensors, writer, before)
        writer.finish()
    except BaseException:
        writer.void()
        raise
    return digests


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

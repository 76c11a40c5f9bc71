"""The rooms that this process copies its dumps into: which are free, and one made ready ahead of need.

A room belongs to the supervisor from Dumped to Saved or Unsaved, and to nobody else before and after. The one that
was saved last stays: the next dump goes into it, and until then it is the checkpoint's copy in memory.
"""

from __future__ import annotations

import errno
import os
from _thread import allocate_lock
from pathlib import Path
from time import monotonic, sleep

from ckptd.memory.available import available
from ckptd.memory.room import Room
from ckptd_agent import threads
from ckptd_agent.device import pinning

SHARE = 0.5
"""Part of the memory that is to be had which a room may take."""
LIMIT = 0.8
"""Part of it that a dump may take which comes before there is a room."""
STEP = 2 << 20
"""Bytes that are made ready at a time: the program's own mappings wait as long."""
IDLE = 4.0
"""How many times as long as that took nothing is done then."""
SPARE = 32 << 20
"""Bytes of a room for what can't be known ahead: the graph, buffers."""

_lock = allocate_lock()
"""Held for moments only, by the main thread and the agent thread."""
_free: list[Room] = []
_lent: dict[str, Room] = {}
"""With the supervisor, by dump."""
_taken = False
"""A dump is being copied."""
_preparing = False


def take() -> Room:
    """A room for a dump: a free one, else a new one. Give it back or lend it. Raises OSError."""
    global _taken
    with _lock:
        _taken = True
        while _free:
            room = _free.pop()
            if room.is_there():
                return room
            room.close()
    return _new()


def lend(room: Room, dump: str) -> None:
    """The supervisor has it, until it has answered."""
    global _taken
    with _lock:
        _taken = False
        _lent[dump] = room


def demand(room: Room, nbytes: int) -> None:
    """The room is to hold so much. Raises OSError (ENOSPC) where taking that would starve the machine."""
    if nbytes - room.nbytes > LIMIT * available():
        raise OSError(errno.ENOSPC, "not enough memory", str(room.path))


def let_go(room: Room) -> None:
    """It was not large enough, and what it takes is needed."""
    global _taken
    with _lock:
        _taken = False
        _drop(room)


def give_back(room: Room) -> None:
    """It was not used after all."""
    global _taken
    with _lock:
        _taken = False
        _keep(room)


def answered(dump: str) -> None:
    """The supervisor is done with the room of a dump."""
    with _lock:
        room = _lent.pop(dump, None)
        if room is not None:
            _keep(room)


def adopt(path: Path) -> None:
    """Use what an earlier process of the job left. Called when nothing is read from it any more."""
    try:
        room = Room(path)
    except OSError:
        return
    give_back(room)


def prepare(nbytes: int) -> None:
    """Have a room for a state of so many bytes ready before it is needed, if memory allows; in the background."""
    global _preparing
    if _preparing or nbytes <= 0:
        return
    _preparing = True
    try:
        threads.start(_prepare, nbytes + SPARE)
    except RuntimeError:  # there may be no more threads: a dump makes its room when it needs it
        _preparing = False


def _keep(room: Room) -> None:
    """Let one room be free: the newest."""
    while _free:
        _drop(_free.pop())
    if room.nbytes > SHARE * (available() + room.nbytes):
        _drop(room)
    else:
        _free.append(room)


def _drop(room: Room) -> None:
    if room.is_there():
        try:
            room.path.unlink()
        except OSError:
            pass  # the supervisor was faster
    room.close()


def _prepare(nbytes: int) -> None:
    """Grow the free room, or make one, and touch its pages little by little."""
    global _preparing
    pid = os.getpid()
    try:
        while (_prepare_more(nbytes) or _pin_more()) and os.getpid() == pid:
            pass
    except OSError:
        pass  # no room there: a dump will find out by itself what is possible
    finally:
        _preparing = False


def _prepare_more(nbytes: int) -> bool:
    """One step; False when it is done, or a dump has come in between."""
    began = monotonic()
    with _lock:
        if not _free:
            if _taken or _lent or nbytes > SHARE * available():
                return False
            _free.append(_new())
        room = _free[-1]
        if room.nbytes < nbytes:
            if nbytes - room.nbytes > SHARE * available():
                return False
            room.grow(nbytes)
        if room.ready >= nbytes:
            return False
        end = min(room.ready + STEP, nbytes)
        room.populate(room.ready, end)
        room.ready = end
    sleep(IDLE * (monotonic() - began))
    return end < nbytes


def _pin_more() -> bool:
    """Lock a piece of the free room for devices; False when there is no more to do."""
    began = monotonic()
    with _lock:
        more = bool(_free) and pinning.pin(_free[-1])
    sleep(IDLE * (monotonic() - began))
    return more


def _new() -> Room:
    """A room of no bytes yet. Raises OSError."""
    return Room(Path(os.environ["CKPTD_SEGMENTS"]) / f"{os.getpid()}-{os.urandom(4).hex()}.seg")

"""Restoring: the saved graph is laid over what the replayed program has made, stage by stage."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from ckptd.errors import RefusedError
from ckptd_agent import guards, opened
from ckptd_agent.graph import document, frames
from ckptd_agent.loops import position
from ckptd_agent.loops import record as r
from ckptd_agent.loops.position import COMPREHENSIONS
from ckptd_agent.source.quiet import warnings_off


class Restorer:
    """What is known of a checkpoint, and the grafts of it so far."""

    def __init__(self, opened: Any, saved: document.Document) -> None:
        self.opened = opened
        self.saved = saved
        self.places = saved["places"]
        self.path = [loop for place in self.places for loop in place["loops"]]
        """The active loops at the checkpoint, outermost first."""
        self.final = saved["final"]
        self.graft: Any = None
        self.guarded = False
        self.pinned: set[int] = set()
        self.copied: set[str] = set()

    def new_graft(self, *, lenient: bool = False) -> Any:
        from ckptd_agent.graph.graft import Graft
        from ckptd_agent.state import kinds  # noqa: F401 - registers them all
        from ckptd_agent.state.iterators import pinned

        if not self.guarded:
            self.guarded = True
            guards.guard_torch()
            self.pinned = pinned(self.saved["nodes"])
        graft = Graft(self.saved["nodes"], self.opened.storage, lenient=lenient)
        graft.copied, graft.pinned = self.copied, self.pinned
        return graft

    def is_prefix(self, found: position.Position, *, whole: bool) -> bool:
        """The frames are those of the record, and all but the innermost stand where they stood."""
        if len(found.places) > len(self.places) or (whole and len(found.places) != len(self.places)):
            return False
        last = len(found.places) - 1
        for number, (place, saved) in enumerate(zip(found.places, self.places, strict=False)):
            if list(place.key) != saved["key"]:
                return False
            if number < last and [place.lasti, place.through] != [
                saved["lasti"],
                saved.get("through", place.through),
            ]:
                return False
        return True

    def stage(self, frame: FrameType) -> None:
        """Graft what the frames that are there refer to."""
        found = position.find(frame, strict=False)
        if not self.is_prefix(found, whole=False):
            raise RefusedError(f"the program came to {where_is(frame)} by another way than in the first run")
        self.graft = self.new_graft(lenient=True)
        self._graft_frames(found)

    def _graft_frames(self, found: position.Position) -> None:
        import torch

        # The program may stand in a no_grad or inference_mode block: what is made for it is made outside.
        with torch.inference_mode(False), torch.enable_grad():
            self._graft_all(found)

    def _graft_all(self, found: position.Position) -> None:
        graft = self.graft
        pairs = list(zip(found.places, self.places, strict=False))
        for place, saved in pairs:
            own = frames.read(place.frame)
            pair_variables(saved["variables"], own, graft)
        for name, items in self.saved["modules"].items():
            module = sys.modules.get(name)
            if module is not None:
                pair_variables(items, module.__dict__, graft)
        for record, loop in zip(r.stack[1:], self.path, strict=False):
            if record[r.HOLDER] is not None:
                graft.pair(loop["items"], record[r.HOLDER][1])
        for child, stream in zip(self.saved["streams"], (sys.stdout, sys.stderr), strict=True):
            graft.pair(child, stream)
        graft.match()
        sys.stdout, sys.stderr = graft.values(self.saved["streams"])
        restored = [(place.frame, _variables(saved["variables"], graft)) for place, saved in pairs]
        modules = [
            (sys.modules[name].__dict__, _variables(items, graft))
            for name, items in self.saved["modules"].items()
            if name in sys.modules
        ]
        for record, loop in zip(r.stack[1:], self.path, strict=False):
            _set_holder(record, graft.value(loop["items"]))
        graft.fill()
        if graft.stirred:
            graft.fill_again()
        for place_frame, variables in restored:
            if place_frame.f_code.co_name not in COMPREHENSIONS:
                frames.write(place_frame, variables)
        for namespace, variables in modules:
            frames.write_module(namespace, variables)

    def _pair_files(self, files: list[Any], fresh: list[Any]) -> None:
        """Files that only a library holds: by path, then by the order in which they were opened."""
        for child in files:
            path = self.saved["nodes"][child[0]][2]
            for file in fresh:
                if os.path.abspath(os.fsdecode(file.name)) == path:
                    self.graft.pair_late(child, file)
        for child in files:
            for file in fresh:
                self.graft.pair_late(child, file)

    def restore_all(self, frame: FrameType) -> list[Callable[[], None]]:
        """Graft everything at the recorded safe point; what is left to be done to the job's files."""
        found = position.find(frame, strict=False)
        if not self.is_prefix(found, whole=True):
            raise RefusedError(f"the program came to {where_is(frame)} by another way than in the first run")
        saved_last = self.places[-1]
        if not self.final[3] and found.places[-1].lasti != saved_last["lasti"]:
            raise RefusedError(f"the program stands elsewhere in {where_is(frame)} than in the first run")
        self.graft = graft = self.new_graft()
        files = self.saved["files"]
        self._pair_files(files, opened.noted())
        self._graft_frames(found)
        for child in files:
            if child[0] not in graft.made and child[0] not in graft.fresh:
                path = self.saved["nodes"][child[0]][2]
                raise RefusedError(f"the file {path}, which a library was writing, has not been opened again")
            graft.value(child)
        graft.fill()
        if graft.stirred:
            graft.fill_again()
        later: list[Callable[[], None]] = graft.later
        return later


def pair_variables(items: list[Any], own: dict[str, Any], graft: Any) -> None:
    """Pair saved names and values with variables that are there, by name."""
    for name, value in zip(items[::2], items[1::2], strict=True):
        if name in own:
            graft.pair(value, own[name])


def _variables(items: list[Any], graft: Any) -> dict[str, Any]:
    return {name: graft.variable(value) for name, value in zip(items[::2], items[1::2], strict=True)}


def _set_holder(record: r.Record, items: Any) -> None:
    """Exchange the iterator that a loop opened by the replay draws from, if it is not the same.

    Done once in any case: by itself the chain would call ``iter()`` of the iterator, and a class of the program's
    may begin anew there.
    """
    holder = record[r.HOLDER]
    if holder is None or (holder[2] and holder[1] is items):
        return
    with warnings_off():
        holder[0].__setstate__((iter(()), items))
    holder[1:] = [items, True]


def where_is(frame: FrameType) -> str:
    """Where a frame stands, for people."""
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"

"""numpy.memmap: arrays that lie in a file.

What a read-only one holds is the file's. One that may be written is state like any other: its contents are in the
checkpoint, and a resume maps the job's file once more and writes them there. One that is copied on write has its own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ckptd_agent import opened
from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.graph.kind import Kind, Node, register
from ckptd_agent.state.arrays import describe, make_view, owner_fits, owner_of, place_in, undescribe

READS, COPIES = "r", "c"
"""Modes of maps that never change their file."""


class Map(Kind):
    name = "memmap"

    def takes(self, obj: Any) -> bool:
        return isinstance(obj, np.memmap)

    def capture(self, obj: Any, capture: Capture) -> Node:
        owner: Any = owner_of(obj)
        if owner is not obj:
            place = [capture.child(owner), *place_in(obj, owner)]
            return ["view", capture.child(type(obj)), describe(obj.dtype), list(obj.shape), place]
        if obj.mode not in (READS, COPIES) and obj.filename is None:
            capture.trouble("an array that is mapped on a file without a name can't be carried over")
        name = ""
        if obj.mode != READS:
            name = f"a{capture.numbers[id(obj)]}"
            plain = np.asarray(obj)
            capture.storages[name] = plain if plain.flags.c_contiguous else plain.T
        path = None if obj.filename is None else os.path.abspath(obj.filename)
        order = "C" if obj.flags.c_contiguous else "F"
        where = [path, isinstance(obj.filename, Path), obj.mode, int(obj.offset), order]
        return [name, capture.child(type(obj)), describe(obj.dtype), list(obj.shape), where]

    def fits(self, node: Node, fresh: Any, graft: Graft) -> bool:
        if not isinstance(fresh, np.memmap) or not graft.is_class(node[2], type(fresh)):
            return False
        if [describe(fresh.dtype), list(fresh.shape)] != node[3:5]:
            return False
        owner: Any = owner_of(fresh)
        if node[1] == "view" or owner is not fresh:
            same = node[1] == "view" and owner is not fresh and place_in(fresh, owner) == node[5][1:]
            return same and owner_fits(node, owner, graft)
        same = fresh.filename is not None and os.path.abspath(fresh.filename) == node[5][0]
        # What the replay has opened for writing lies in memory: it does on the way, but not in the end.
        return bool(same and fresh.mode == node[5][2] and (fresh.mode in (READS, COPIES) or graft.lenient))

    def match(self, node: Node, fresh: Any, graft: Graft) -> None:
        if node[1] == "view":
            graft.pair(node[5][0], owner_of(fresh))

    def make(self, node: Node, fresh: Any, graft: Graft) -> Any:
        if node[1] == "view":
            made = make_view(node, graft)
            owner = graft.value(node[5][0])
            for name in ("_mmap", "filename", "offset", "mode"):
                setattr(made, name, getattr(owner, name))
            return made
        path, as_path, mode, offset, order = node[5]
        if graft.lenient and mode not in (READS, COPIES):
            return graft.missing("numpy.memmap")
        how = "r+" if mode not in (READS, COPIES) else mode
        cls = graft.the_class(node[2], np.memmap)
        try:
            with opened.real_open(path, "r+b" if how == "r+" else "rb") as file:
                made = cls(file, undescribe(node[3]), how, offset, tuple(node[4]), order)
        except (OSError, ValueError) as error:
            raise graft.refuse(
                f"the file {path}, on which an array was mapped, can't be mapped again: {error}"
            ) from error
        made.filename, made.mode = Path(path) if as_path else path, mode
        return made

    def fill(self, node: Node, obj: Any, graft: Graft) -> None:
        if node[1] == "view":
            graft.value(node[5][0])
        elif node[1]:
            saved = np.frombuffer(graft.storages(node[1]), undescribe(node[3]))
            saved = saved.reshape(node[4], order=node[5][4])
            if graft.lenient or node[5][2] == COPIES:
                np.copyto(obj, saved)
            else:  # the job's own file: not before all else is known to be right
                graft.later.append(lambda: np.copyto(obj, saved))


register(Map)

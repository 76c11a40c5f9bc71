"""Takes a dump at a safe point: captures what the program holds, and has it copied."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ckptd_agent.loops import events
from ckptd_agent.source.quiet import warnings_off
from ckptd_agent.unseen import torch_modes_off

if TYPE_CHECKING:
    from pathlib import Path

    from ckptd_agent.drain import Later
    from ckptd_agent.graph.capture import Capture
    from ckptd_agent.graph.document import Final
    from ckptd_agent.leftovers import Watch
    from ckptd_agent.loops import position


class GraphWaitsError(Exception):
    """A graph that backward has not been through is held here."""


def import_ahead() -> None:
    """What a dump needs, while there is time: it is a tenth of what a small one takes."""
    from ckptd_agent import company, copying, drain, facts, modes  # noqa: F401
    from ckptd_agent.graph import addresses, capture, document  # noqa: F401
    from ckptd_agent.state import graphs, kinds, rng, sharing  # noqa: F401


def take(
    found: position.Position,
    final: Final,
    dump: str,
    *,
    watch: Watch | None = None,
    begun: Callable[[Path], None] | None = None,
    later: Later | None = None,
) -> Path | None:
    """Capture and copy: the path of the segment, or None if it is completed later.

    ``watch`` tells whether a graph waits for backward here; without it none is asked for. ``begun`` and ``later``: see
    drain. Raises GraphWaitsError, DumpFailedError, and whatever.
    """
    from ckptd.errors import DumpFailedError
    from ckptd_agent import company
    from ckptd_agent.state import rng

    import_ahead()  # first: it may be what brings numpy's generators in, and then they are carried over
    states = rng.take()
    if busy := company.trouble():
        raise DumpFailedError(busy)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    collecting = gc.isenabled()
    gc.disable()  # it would go through all of the program's objects again and again, for those that a dump makes
    try:
        with torch_modes_off(), warnings_off():
            described, capture = _describe(found, final, states, watch)
            return _drain(described, capture, dump, begun, later)
    finally:
        if collecting:
            gc.enable()


def _describe(
    found: position.Position, final: Final, states: dict[str, Any], watch: Watch | None
) -> tuple[dict[str, Any], Capture]:
    from ckptd.errors import DumpFailedError
    from ckptd_agent import modes, opened
    from ckptd_agent.graph import addresses, document
    from ckptd_agent.graph.capture import Capture
    from ckptd_agent.state import graphs, kinds, sharing  # noqa: F401 - kinds registers them all

    capture = Capture()
    described = document.describe(found, final, capture)
    capture.run()
    described["files"] = _capture_files(capture)
    sharing.link(capture)
    addresses.link(capture)
    unused = capture.scratch(graphs.Graphs).unused
    if (
        watch is not None
        and unused
        and watch.one_waits(unused, (final.loop, final.at_end), events.steps() if events.stepped else 0)
    ):
        raise GraphWaitsError
    if capture.troubles:
        raise DumpFailedError(capture.troubles[0])
    described["nodes"] = capture.nodes
    described["rng"] = states
    described["modes"] = modes.take()
    described["appended"] = opened.appended_sizes()
    return described, capture


def _drain(
    described: dict[str, Any],
    capture: Capture,
    dump: str,
    begun: Callable[[Path], None] | None,
    later: Later | None,
) -> Path | None:
    from ckptd_agent import drain, facts
    from ckptd_agent.graph import document

    graph, collected = document.pack(described), facts.collect(capture, described)
    if later is not None:
        return drain.drain_behind(capture, graph, collected, dump, later)
    return drain.drain(capture, graph, collected, dump, begun)


def _capture_files(capture: Capture) -> list[Any]:
    """Files that are being written, but to which no variable leads; their number of nodes."""
    from ckptd_agent import opened
    from ckptd_agent.state.files import Captured

    left = {fd: path for fd, path in opened.written().items() if fd not in capture.scratch(Captured).fds}
    if not left:
        return []
    found = opened.holders(set(left))
    for fd, path in left.items():
        if fd not in found:
            capture.anchors[path] = "written past Python's files"
            if path in opened.descriptors:
                capture.trouble(
                    f"the file {path} is held by a number of os.open's: those of open() are carried over"
                )
    children: list[Any] = capture.children(found[fd] for fd in sorted(found))
    capture.run()
    return children

"""Capture and graft one object, through a real segment."""

from __future__ import annotations

import pytest

from ckptd_agent.drain import drain
from ckptd_agent.graph import document
from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.graft import Graft
from ckptd_agent.state import kinds, sharing  # noqa: F401 - kinds registers them all


def carry(saved, fresh, tmp_path, monkeypatch):
    """Capture one object, and graft it over another one, through a real segment."""
    from ckptd.memory.segment import Segment

    monkeypatch.setenv("CKPTD_SEGMENTS", str(tmp_path))
    capture = Capture()
    root = capture.child(saved)
    capture.run()
    sharing.link(capture)
    assert capture.troubles == []
    path = drain(
        capture, document.pack({"version": document.VERSION, "nodes": capture.nodes, "root": root}), {}, "1"
    )
    with Segment(path) as segment:
        known = document.unpack(bytes(segment.graph()))
        at = {each.name: each for each in segment.index.tensors}
        copies = {name: bytes(segment.data()[t.offset : t.offset + t.nbytes]) for name, t in at.items()}
    graft = Graft(known["nodes"], lambda name: memoryview(copies[name]))
    graft.pair(known["root"], fresh)
    graft.match()
    result = graft.value(known["root"])
    graft.fill()
    return result


@pytest.fixture
def over(tmp_path, monkeypatch):
    return lambda saved, fresh=None: carry(saved, fresh, tmp_path, monkeypatch)

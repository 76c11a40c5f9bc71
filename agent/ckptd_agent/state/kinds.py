"""All kinds of objects, in the order in which they are asked. Imported once torch is there."""

from __future__ import annotations

from importlib.util import find_spec

from ckptd_agent.graph import anchors, buffers, containers, functions  # noqa: F401 - they register their kinds
from ckptd_agent.graph.instances import Instance, Stateful
from ckptd_agent.graph.kind import register
from ckptd_agent.state import (  # noqa: F401
    ended,
    files,
    generators,
    iterators,
    loaders,
    memos,
    natives,
    queues,
    raised,
    readers,
    rng,
    tensors,
    trackers,
    weak,
)

if find_spec("numpy"):  # torch can do without it
    from ckptd_agent.state import arrays, maps  # noqa: F401

register(anchors.Rebuilt, anchors.Anchor, Stateful, Instance, anchors.Reduced)

"""A graph, and all that is done with one."""

from __future__ import annotations

import json
from array import array
from typing import Any

import msgpack

from ckptd.store.contents import Contents
from ckptd.store.graph import Graph
from ckptd.store.naming import Tree, short_names

VERSION = 3
"""Of a graph (ckptd_agent.graph.document)."""


def _numbers(code: int, kind: str, values: list[Any]) -> msgpack.ExtType:
    return msgpack.ExtType(code, array(kind, values).tobytes())


GRAPH = msgpack.packb(
    {
        "version": VERSION,
        "places": [
            {
                "key": ["__main__", "<module>", "train.py", 3],
                "lasti": 4,
                "variables": ["model", [0], "rows", [6], "n", 5],
                "loops": [{"key": ["__main__", 1], "count": 3, "where": "train.py:4", "items": None}],
            }
        ],
        "modules": {"helper": ["weight", [3]]},
        "nodes": [
            ["object", [9], ["_parameters", [1], "_buffers", [2], "_modules", [2]], []],
            ["dict", ["weight", [3]], None],
            ["dict", [], None],
            ["tensor", [9], [4], "float32", [2, 3], [3, 1], 0, [True], None, []],
            ["storage", "s0", 24, "cpu"],
            ["array", "s1", [9], "<f8", [3], None, [0]],
            ["list", [[7], [8], [5]]],
            None,
            None,
            ["class", "torch", "Tensor", []],
            [
                "rows", "tuple", _numbers(3, "q", [7, 8]), [], [], None, None,
                [_numbers(2, "q", [1, 2]), _numbers(1, "d", [0.5, 1.5])],
            ],
        ],
    }
)  # fmt: skip


def walk(data: bytes) -> None:
    """All that show, diff and export do with a graph."""
    contents = Contents(Graph(data, "it"))
    json.dumps([variable.value for variable in contents.variables])
    Tree(contents, short_names(contents)).build()
    contents.graph.loops()


def unpack(data: bytes) -> list[str]:
    """What a resume does with it first: each node can then be asked for its kind."""
    from ckptd_agent.graph import document  # brings torch with it

    return [node[0] for node in document.unpack(data)["nodes"] if node is not None]

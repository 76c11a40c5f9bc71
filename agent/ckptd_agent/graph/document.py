"""The graph document: what one dump holds besides the bytes of tensors, as msgpack can carry it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import msgpack

from ckptd.errors import RefusedError
from ckptd.store.packed import unpack_whole
from ckptd_agent.graph import frames
from ckptd_agent.graph.capture import Capture
from ckptd_agent.graph.rows import laid_out, packed, unpacked
from ckptd_agent.loops import record as r
from ckptd_agent.loops.position import COMPREHENSIONS, Position, chain_of, is_direct, spot
from ckptd_agent.source import table

VERSION = 3
"""2 had numpy's global generator as a list, for it could be of one kind only."""
OLDEST = 2
Document = dict[str, Any]


@dataclass(frozen=True)
class Final:
    """The loop at which the program stood: at the top of its body, or behind its end."""

    loop: int
    ordinal: int
    at_end: bool
    how: int = 0
    """At its end: exhausted, or left by break (ckptd_agent.loops.record)."""


def describe(position: Position, final: Final, capture: Capture) -> Document:
    """Capture all that is reachable from the frames of a position."""
    places = []
    for place in position.places:
        own = frames.read(place.frame) if place.frame.f_code.co_name not in COMPREHENSIONS else {}
        places.append(
            {
                "key": list(place.key),
                "lasti": place.lasti,
                "spot": spot(place.frame),
                "statement": place.statement,
                "through": place.through,
                "variables": capture.items(own.items()),
                "loops": [_describe_loop(record, capture) for record in place.records],
            }
        )
    document: Document = {
        "version": VERSION,
        "places": places,
        "modules": {name: capture.items(space.items()) for name, space in user_modules(position)},
        "streams": capture.children([sys.stdout, sys.stderr]),
        "ledgers": [_describe_ledger(record, capture) for record in r.stack],
        "final": [*table.LOOPS[final.loop].key, final.ordinal, final.at_end, final.how],
    }
    return document


def user_modules(position: Position) -> list[tuple[str, dict[str, Any]]]:
    """Names and namespaces of the user's modules whose code is not being run at this moment."""
    running = {
        id(place.frame.f_globals) for place in position.places if place.frame.f_code.co_name == "<module>"
    }
    found = []
    for name in ["__main__", *table.SOURCES]:
        module = sys.modules.get(name)
        if module is not None and id(module.__dict__) not in running:
            running.add(id(module.__dict__))
            found.append((name, {k: v for k, v in module.__dict__.items() if frames.is_variable(k)}))
    return found


def live_items(record: r.Record) -> Any:
    """The iterator that a for loop draws from, or None for a while loop."""
    if record[r.HOLDER] is not None:
        return record[r.HOLDER][1]
    if record[r.ITEMS] is record[r.COUNTER]:
        return None
    import gc

    return next(each for each in gc.get_referents(record[r.ITEMS]) if each is not record[r.COUNTER])


def _describe_loop(record: r.Record, capture: Capture) -> Document:
    loop = table.LOOPS[record[r.LOOP]]
    return {
        "key": list(loop.key),
        "ordinal": record[r.ORDINAL],
        "count": r.count(record),
        "flags": record[r.FLAGS] & (r.BACKWARD | r.STEP),
        "items": capture.child(live_items(record)),
        "where": loop.where,
    }


def _describe_ledger(record: r.Record, capture: Capture) -> list[Document]:
    if record[r.LEDGER] is None or r.length_hint(record[r.COUNTER]) != record[r.SEEN]:
        return []
    entries = []
    for (loop, ordinal), ended in record[r.LEDGER].items():
        entries.append(
            {
                "key": list(table.LOOPS[loop].key),
                "ordinal": ordinal,
                "chain": chain_of(ended.chain),
                "direct": is_direct(table.LOOPS[loop].function, ended.chain),
                "how": ended.how,
                "value": capture.child(ended.value),
                "variables": capture.items(ended.variables.items()),
            }
        )
    return entries


def pack(document: Document) -> bytes:
    """Encode for the segment."""
    data: bytes = msgpack.packb(document, default=packed)
    return data


def unpack(data: bytes) -> Document:
    """Decode what was in a checkpoint; RefusedError if it is of a newer version or no graph."""
    try:
        document = unpack_whole(data, unpacked)
        version = document["version"]
        if OLDEST <= version <= VERSION:
            nodes = document["nodes"]
            if not isinstance(nodes, list) or not {*map(type, nodes)} <= {list, type(None)}:
                raise TypeError("its nodes are none")
            document["nodes"] = laid_out(nodes)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RefusedError(f"the checkpoint's graph can't be read: {error}") from error
    if not OLDEST <= version <= VERSION:
        way = "update ckptd" if version > VERSION else "go on with the ckptd that has taken it"
        raise RefusedError(
            f"the checkpoint's graph has version {version!r:.40}, this ckptd reads {OLDEST} to {VERSION}: {way}"
        )
    return document  # type: ignore[no-any-return]

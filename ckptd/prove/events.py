"""Reads the journal that the agent writes (ckptd_agent.journal): one event a line, as changes to the one before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckptd.errors import CkptdError

PRIMARY = ("loss", "parameter", "buffer", "optimizer")
"""Kinds that make up the training; the others only help to find a cause."""
KINDS = (*PRIMARY, "rng", "variable")
"""All kinds, in the order in which people are told of them."""


@dataclass(frozen=True)
class Item:
    """The digest of one thing."""

    kind: str
    """One of KINDS."""
    digest: str
    shown: str
    """A number, or type and shape: what people are told."""


@dataclass(frozen=True)
class Event:
    """A training event ('step'), a safe point ('dumped', 'resumed') or a mark ('start', 'asked', 'failed')."""

    kind: str
    step: int
    items: dict[str, Item]
    """By name; of a mark the last ones. Not to be changed."""
    more: dict[str, Any]
    """What else the line says."""


def read_events(path: Path) -> Iterator[Event]:
    """All events in their order. A last line that is cut off is left out.

    Raises:
        CkptdError: the journal can't be used.
    """
    names: list[tuple[str, str]] = []
    items: dict[str, Item] = {}
    for line in _lines(path):
        if line["k"] == "start":
            names, items = [], {}
        if "v" in line:
            names += [(name, kind) for name, kind in line["new"]]
            items = dict(items)
            for number in line["gone"]:
                items.pop(names[number][0], None)
            for number, (digest, shown) in line["v"].items():
                name, kind = names[int(number)]
                items[name] = Item(kind, digest, shown)
        more = {key: value for key, value in line.items() if key not in ("k", "s", "new", "v", "gone")}
        yield Event(line["k"], line["s"], items, more)


def read_steps(path: Path) -> Iterator[Event]:
    """The training events only."""
    return (event for event in read_events(path) if event.kind == "step")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield json.loads(line)
    except FileNotFoundError:
        return  # nothing in the command imported torch
    except (OSError, ValueError) as error:
        raise CkptdError(f"the journal {path} can't be read: {error}") from error

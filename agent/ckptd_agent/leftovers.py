"""Tells graphs that backward may still go through from leftovers, by what became of those that were there before.

A dump waits where an autograd graph waits for backward. Many programs leave graphs behind that nothing goes through:
a loss that was kept, an evaluation or a rollout without ``no_grad``, ``retain_graph=True``. One that optimizer steps
in plenty have left alone is such a leftover; and where graphs are always new, those that were there at the last looks
at the same place tell: they are gone, and nothing had gone through them.

What is known of a graph lies at its own node (``metadata``), so that looking keeps none alive.
"""

from __future__ import annotations

import weakref
from typing import Any

STALE = 8
"""Optimizer steps behind which a graph that nothing has gone through is taken for a leftover."""
ENOUGH = 3
"""Looks at one place in a row whose graphs have all come to nothing: so will those that are there now."""
_KEY = "ckptd"

Place = tuple[int, bool]
"""A loop, and whether it is its end."""


class Sight:
    """What is known of one graph; it goes when the graph goes."""

    __slots__ = ("__weakref__", "steps", "used")

    def __init__(self, steps: int) -> None:
        self.steps = steps
        """Optimizer steps when it was first seen."""
        self.used = [False]
        """Whether backward has gone through it since; outlives the graph."""


class Watch:
    """The looks of one request."""

    def __init__(self) -> None:
        self._last: dict[Place, list[tuple[weakref.ref[Sight], list[bool]]]] = {}
        self._in_a_row: dict[Place, int] = {}

    def one_waits(self, unused: list[Any], place: Place, steps: int) -> bool:
        """Whether one of the graphs (their ``grad_fn``) at this place may be on its way to backward."""
        sights = [_sight(node, steps) for node in unused]
        row = self._in_a_row.get(place, 0)
        if place in self._last:
            harmless = all(_came_to_nothing(*each, steps) for each in self._last[place])
            self._in_a_row[place] = row = row + 1 if harmless else 0
        self._last[place] = [(weakref.ref(each), each.used) for each in sights]
        return row < ENOUGH and any(steps < each.steps + STALE for each in sights)


def _sight(node: Any, steps: int) -> Sight:
    found = node.metadata.get(_KEY)
    if type(found) is not Sight:
        found = node.metadata[_KEY] = Sight(steps)
        used = found.used

        def note(_grads: Any) -> None:
            used[0] = True

        node.register_prehook(note)
    return found


def _came_to_nothing(sight: weakref.ref[Sight], used: list[bool], steps: int) -> bool:
    """The graph is gone, or stale, and nothing has gone through it."""
    left = sight()
    return not used[0] and (left is None or steps >= left.steps + STALE)

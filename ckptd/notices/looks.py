"""Paths of a metadata service that are not there (404) until something is announced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ckptd.notices.event import Ears, Notice, Over
from ckptd.notices.http import Answer, Service
from ckptd.notices.rounds import go_round
from ckptd.notices.tokens import Guarded, Names

EVERY = 2.0
"""Seconds from one look to the next; Amazon recommends 5 at most, its termination handler takes 2."""


class Path:
    """One path, and what stands there."""

    def __init__(self, path: str, read: Callable[[Answer], list[Notice]]) -> None:
        """``read``: what an answer means; raises NoAnswer."""
        self._path, self._read = path, read
        self._standing: dict[str, Notice] = {}
        self._body = b""

    def look(self, service: Guarded, ears: Ears, over: Over) -> None:
        """Tell what stands there, and what no longer does; raises NoAnswer."""
        answer = service.get(self._path, over)
        found = {notice.id: notice for notice in self._read(answer)} if answer is not None else {}
        same = answer is not None and answer.body == self._body
        for number, notice in found.items():
            last = self._standing.get(number)
            if same and last is not None and last.kind == notice.kind:
                found[number] = (
                    last  # one that can't be meant, or has passed, would move along with the clock
                )
            ears.tell(found[number])
        for number in self._standing.keys() - found.keys():
            ears.tell(replace(self._standing[number], withdrawn=True))
        self._standing, self._body = found, answer.body if answer is not None else b""


class Looks:
    """Looks at some paths, one after the other, round after round: a source."""

    def __init__(self, name: str, service: Service, names: Names, paths: list[Path]) -> None:
        self.name = name
        self._guarded = Guarded(service, names)
        self._paths = paths

    def watch(self, ears: Ears, over: Over) -> None:
        """See ckptd.notices.event.Source."""

        def look() -> None:
            for path in self._paths:
                path.look(self._guarded, ears, over)

        go_round(look, ears, over, EVERY)

"""What is counted of a job while its ckptd lives, from its news (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds in seconds, from the request for a checkpoint to the moment when it is durable; +Inf follows."""


@dataclass
class Figures:
    """Sums from the start of this ckptd on."""

    blocked: float = 0.0
    """Seconds that training stood still for copies."""
    failures: int = 0
    """Dumps that came to nothing."""
    restarts: int = 0
    uploads: int = 0
    notices: dict[str, dict[str, int]] = field(default_factory=dict)
    """By source and kind."""
    seconds: float = 0.0
    """From requests to durable checkpoints, all together."""
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    """Of checkpoints, by BUCKETS."""
    _asked: float | None = None
    _spawned: bool = False

    def hear(self, name: str, at: float, facts: Mapping[str, Any]) -> None:
        """One of the news."""
        if name == "asked":
            self._asked = at
        elif name == "copied":
            self.blocked += float(facts.get("seconds") or 0.0)
        elif name == "durable":
            self._durable(at)
        elif name == "unsaved":
            self.failures += 1
            self._asked = None
        elif name == "spawned":
            self.restarts += self._spawned
            self._spawned = True
        elif name == "adopted":
            self._spawned = True
        elif name == "uploaded":
            self.uploads += 1
        elif name == "notice":
            kinds = self.notices.setdefault(str(facts.get("source")), {})
            kinds[str(facts.get("kind"))] = kinds.get(str(facts.get("kind")), 0) + 1

    def _durable(self, at: float) -> None:
        if self._asked is None:
            return  # left in memory by a ckptd that was killed: nobody knows how long it took
        took, self._asked = at - self._asked, None
        self.seconds += took
        self.counts[sum(took > bound for bound in BUCKETS)] += 1

    def as_map(self) -> dict[str, Any]:
        """Plain data, for a message."""
        return {
            "blocked": self.blocked, "failures": self.failures, "restarts": self.restarts, "uploads": self.uploads,
            "notices": {source: dict(kinds) for source, kinds in self.notices.items()},
            "seconds": self.seconds, "counts": list(self.counts),
        }  # fmt: skip

"""What happens to a job, as it happens, for whoever follows it. docs/protocol.md has the names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Listener = Callable[[str, float, dict[str, Any]], None]
"""Called with a name, monotonic seconds, and plain facts."""


class News:
    """Tells all listeners, in the order in which they came."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.listeners: list[Listener] = []

    def tell(self, name: str, **facts: Any) -> None:
        """Something happened now."""
        at = self._clock()
        for listener in self.listeners:
            listener(name, at, facts)

"""An agent that leaves every process alone."""

from __future__ import annotations


def start(bootstrap: str = "", script: str | None = None) -> None:
    """Do nothing."""

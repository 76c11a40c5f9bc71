"""What a look at a machine or a command brings to light."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LOSES = "loses work"
"""As things are, an interruption would cost work: the exit status is 1."""
WARNS = "may lose work"
"""It depends on what can't be seen from here."""
NOTES = "note"
SEVERITIES = (LOSES, WARNS, NOTES)


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know."""

    what: str
    """The thing, in a few words: 'KillMode', '/dev/shm'."""
    severity: str
    """One of SEVERITIES."""
    text: str
    """One sentence."""
    mend: str = ""
    """The line to type or to put into a file; '' where there is nothing to mend."""


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, else as they were found."""
    return sorted(findings, key=lambda each: SEVERITIES.index(each.severity))

"""How many files ckptd may have open: more than it was given, but what it starts gets what it was given."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

ENOUGH = 8192
"""Connections come faster than they can be counted, and ZeroMQ aborts a process that can't accept one."""
_given: list[tuple[int, int]] = []


def raise_limit() -> None:
    """Raise the soft limit as far as the hard one allows, up to ENOUGH."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < more:
        if not _given:
            _given.append((soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))


@contextmanager
def as_given() -> Iterator[None]:
    """While a program is started."""
    if not _given:
        yield
        return
    raised = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, _given[0])
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, raised)

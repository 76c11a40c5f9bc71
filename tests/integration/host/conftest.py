"""What the daemon's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.hosts import Host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host without a daemon yet."""
    made = Host(tmp_path)
    yield made
    made.end()

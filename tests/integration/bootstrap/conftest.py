"""Places and supervisors for the tests of how the agent gets into a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.bootstrap.job import Place
from integration.bootstrap.router import Router


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


@pytest.fixture
def router() -> Iterator[Router]:
    with Router() as made:
        yield made

"""Sources that listen to fakes on loopback, and the clouds' own sources side by side."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from fakes.alibaba import FakeAlibaba
from fakes.aws import FakeAws
from fakes.azure import FakeAzure
from fakes.gcp import FakeGcp

from ckptd.notices.alibaba import alibaba_sources
from ckptd.notices.aws import aws_sources
from ckptd.notices.azure import azure_sources
from ckptd.notices.event import Health, Notice, Source
from ckptd.notices.gcp import gcp_sources
from ckptd.notices.watch import Watch


class Listening:
    """A watch, and what has come of it."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.watch = Watch(sources)
        self._fresh: list[Notice] = []

    def next(self, seconds: float = 5.0) -> Notice:
        """The next notice."""
        found = self.maybe(seconds)
        assert found is not None, f"nothing was heard in {seconds} s: {self.watch.health()}"
        return found

    def maybe(self, seconds: float) -> Notice | None:
        """The next notice; None if there is none in that time."""
        until = time.monotonic() + seconds
        while not self._fresh and (left := until - time.monotonic()) > 0:
            select.select([self.watch.fileno()], [], [], left)
            self._fresh += self.watch.read()
        return self._fresh.pop(0) if self._fresh else None

    def health(self, name: str) -> Health:
        """How a source fares."""
        return next(each for each in self.watch.health() if each.source == name)

    def fares(self, name: str, state: str, seconds: float = 5.0) -> Health:
        """Wait until it fares so."""
        await_that(lambda: self.health(name).state == state, seconds, lambda: self.watch.health())
        return self.health(name)


def await_that(true: Callable[[], Any], seconds: float = 5.0, what: Callable[[], Any] = lambda: "") -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"not within {seconds} s: {what()}"
        time.sleep(0.01)


@pytest.fixture(name="await_that")
def _await_that() -> Callable[..., None]:
    return await_that


@pytest.fixture
def listen() -> Iterator[Callable[..., Listening]]:
    """Begin to listen to sources; all are closed in the end."""
    begun: list[Listening] = []

    def start(*sources: Source) -> Listening:
        begun.append(Listening(sources))
        return begun[-1]

    yield start
    for each in begun:
        each.watch.close()


@dataclass(frozen=True)
class Cloud:
    """One of those with a metadata service."""

    name: str
    variable: str
    fake: Callable[[], Any]
    sources: Callable[[dict[str, str]], Sequence[Source]]
    every: float
    """Seconds between looks, 0.5 s less than what a notice may take to be heard."""

    def env(self, fake: Any) -> dict[str, str]:
        return {self.variable: fake.host if self.variable.endswith("_HOST") else fake.url}


CLOUDS = {
    "aws": Cloud("aws", "AWS_EC2_METADATA_SERVICE_ENDPOINT", FakeAws, aws_sources, 2.0),
    "gcp": Cloud("gcp", "GCE_METADATA_HOST", FakeGcp, gcp_sources, 0.5),
    "azure": Cloud("azure", "CKPTD_AZURE_METADATA", FakeAzure, azure_sources, 1.0),
    "alibaba": Cloud("alibaba", "CKPTD_ALIBABA_METADATA", FakeAlibaba, alibaba_sources, 2.0),
}


@pytest.fixture(params=sorted(CLOUDS))
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """Each of them."""
    return CLOUDS[request.param]


@pytest.fixture
def clouds() -> dict[str, Cloud]:
    """All of them."""
    return CLOUDS


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks are taken twenty times a second; answers are waited for as long as they really are."""
    for module in ("azure", "looks"):
        monkeypatch.setattr(f"ckptd.notices.{module}.EVERY", 0.05)


@pytest.fixture
def hasty(brisk: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for real services in seconds, is waited for fakes in tenths."""
    for name, value in {
        "ckptd.notices.tokens.PATIENCE": 0.3,
        "ckptd.notices.tokens.TOKEN_PATIENCE": 0.2,
        "ckptd.notices.azure.PATIENCE": 0.3,
        "ckptd.notices.azure.FIRST_PATIENCE": 0.3,
        "ckptd.notices.gcp.PATIENCE": 0.3,
        "ckptd.notices.gcp.POLL_SECONDS": 0.3,
        "ckptd.notices.gcp.SPARE": 0.3,
        "ckptd.notices.gcp.AGAIN": 0.1,
        "ckptd.notices.watch.AGAIN": 0.1,
    }.items():
        monkeypatch.setattr(name, value)

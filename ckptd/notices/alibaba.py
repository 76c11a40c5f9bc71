"""Alibaba Cloud: a preemptible instance that is released. Asked as Amazon's is, with other names.

Source: alibabacloud.com/help, 'Best practices for preemptible instances'.
"""

from __future__ import annotations

from collections.abc import Mapping

from ckptd.notices.clock import SETTLED, clock_words, monotonic_of, unix_time
from ckptd.notices.event import ADVICE, LEAVE, Notice
from ckptd.notices.http import Answer, NoAnswer, Service
from ckptd.notices.looks import Looks, Path
from ckptd.notices.tokens import Names

NAME = "alibaba"
ENDPOINT = "CKPTD_ALIBABA_METADATA"
SPOT_SECONDS = 300.0
"""The notice that an instance gets at most: five minutes, as is commonly said."""
_NAMES = Names(
    "Alibaba's metadata service",
    "X-aliyun-ecs-metadata-token",
    "X-aliyun-ecs-metadata-token-ttl-seconds",
    "Alibaba's metadata service wants a token, and gives none that arrives: is this a container behind a bridge? "
    "give it the host's network",
)


def alibaba_sources(env: Mapping[str, str]) -> list[Looks]:
    """The one source."""
    service = Service(env.get(ENDPOINT) or "http://100.100.100.200", ENDPOINT)
    path = Path("/latest/meta-data/instance/spot/termination-time", read_release)
    return [Looks(NAME, service, _NAMES, [path])]


def read_release(answer: Answer) -> list[Notice]:
    """When the instance is released; raises NoAnswer."""
    when = unix_time(answer.text())
    if when is None:
        raise NoAnswer(f"Alibaba's termination-time is {answer.text()[:60]!r}")
    text = f"Alibaba releases this instance at {clock_words(when)}"
    if when < answer.clock - SETTLED:  # as Amazon's may
        return [Notice(NAME, ADVICE, "spot", None, f"{text}, it said, and has not done so")]
    return [Notice(NAME, LEAVE, "spot", monotonic_of(when, answer.clock, answer.heard, SPOT_SECONDS), text)]

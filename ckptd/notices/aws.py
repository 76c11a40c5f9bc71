"""Amazon EC2: a spot instance that is taken back, advice to rebalance, scheduled maintenance.

Sources: AWS user guide, 'Spot Instance interruption notices', 'EC2 instance rebalance recommendations',
'Scheduled events for your instances'; aws-node-termination-handler, pkg/ec2metadata; amazon-ec2-metadata-mock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckptd.notices.clock import SETTLED, clock_words, monotonic_of, unix_time
from ckptd.notices.event import ADVICE, LEAVE, PAUSE, Notice
from ckptd.notices.http import Answer, NoAnswer, Service
from ckptd.notices.looks import Looks, Path
from ckptd.notices.tokens import Names

NAME = "aws"
ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
MODE = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"
"""As in Amazon's own tools: which address, or 'IPv6' for the other one of the two that there are."""
SPOT_SECONDS = 120.0
"""The notice that a spot instance gets at most."""
NEAR_SECONDS = 900.0
"""Maintenance is told days ahead: before it is so near that is no more than advice."""
FAR_SECONDS = 30 * 86400.0
_NAMES = Names(
    "EC2's metadata service",
    "X-aws-ec2-metadata-token",
    "X-aws-ec2-metadata-token-ttl-seconds",
    "EC2's metadata service is asked for a token and its answer doesn't arrive, as in a container behind a bridge "
    "where the hop limit is 1: aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2 "
    "--instance-id INSTANCE, or give the container the host's network",
)
_MEANT = {"terminate": "terminates", "stop": "stops", "hibernate": "hibernates"}
_SCHEDULED = {
    "instance-reboot": (LEAVE, "reboots this instance"),
    "system-reboot": (LEAVE, "reboots this instance's host"),
    "system-maintenance": (PAUSE, "does maintenance on this instance's host"),
    "instance-retirement": (LEAVE, "retires this instance"),
    "instance-stop": (LEAVE, "stops this instance"),
}


def aws_sources(env: Mapping[str, str]) -> list[Looks]:
    """Spot's own, and one for all that is less urgent: a path that hangs keeps only those behind it waiting."""
    six = env.get(MODE, "").lower() == "ipv6"
    service = Service(
        env.get(ENDPOINT) or f"http://{'[fd00:ec2::254]' if six else '169.254.169.254'}", ENDPOINT
    )
    spot = [Path("/latest/meta-data/spot/instance-action", read_spot)]
    others = [
        Path("/latest/meta-data/events/recommendations/rebalance", read_rebalance),
        Path("/latest/meta-data/events/maintenance/scheduled", read_scheduled),
    ]
    return [Looks(NAME, service, _NAMES, paths) for paths in (spot, others)]


def read_spot(answer: Answer) -> list[Notice]:
    """What becomes of a spot instance; raises NoAnswer."""
    said = answer.json()
    if not isinstance(said, dict) or not isinstance(said.get("action"), str):
        raise NoAnswer(f"EC2's instance-action is {answer.text()[:60]!r}")
    action, when = said["action"], unix_time(str(said.get("time")))
    text = f"AWS {_MEANT.get(action, f'announces {action} for')} this spot instance" + (
        f" at {clock_words(when)}" if when is not None else ""
    )
    if when is None:
        deadline = None
    else:
        deadline = monotonic_of(when, answer.clock, answer.heard, SPOT_SECONDS)
        if when < answer.clock - SETTLED:
            # Where it fails to, the notice stays: a job that obeyed would leave again and again, for ever.
            return [Notice(NAME, ADVICE, "spot", None, f"{text}, it said, and has not done so")]
    if action == "hibernate":  # begins at once, and what runs now runs on behind it
        return [Notice(NAME, PAUSE, "spot", answer.heard, text)]
    return [Notice(NAME, LEAVE, "spot", deadline, text)]


def read_rebalance(answer: Answer) -> list[Notice]:
    """Advice that a spot instance may be taken back; raises NoAnswer."""
    said = answer.json()
    if not isinstance(said, dict):
        raise NoAnswer(f"EC2's rebalance recommendation is {answer.text()[:60]!r}")
    since = str(said.get("noticeTime", ""))
    return [
        Notice(
            NAME, ADVICE, f"rebalance {since}", None, "AWS may soon take back this spot instance (rebalance)"
        )
    ]


def read_scheduled(answer: Answer) -> list[Notice]:
    """Maintenance that stands or is under way; raises NoAnswer."""
    said = answer.json() if answer.body.strip() else []
    events = [said] if isinstance(said, dict) else said
    if not isinstance(events, list) or not all(isinstance(each, dict) for each in events):
        raise NoAnswer(f"EC2's scheduled events are {answer.text()[:60]!r}")
    return [_scheduled(each, answer) for each in events if each.get("State", "active") == "active"]


def _scheduled(event: dict[str, Any], answer: Answer) -> Notice:
    code, when = str(event.get("Code")), unix_time(str(event.get("NotBefore")))
    kind, does = _SCHEDULED.get(code, (ADVICE, f"announces {code}"))
    number = str(event.get("EventId") or f"{code} {event.get('NotBefore')}")
    if when is None:
        return Notice(NAME, ADVICE, number, None, f"AWS {does}")
    left = when - answer.clock
    # Behind the time it may come at any moment for hours; leaving would only mean to come back into it.
    if left > NEAR_SECONDS or left < -SETTLED:
        kind = ADVICE
    deadline = monotonic_of(when, answer.clock, answer.heard, FAR_SECONDS)
    return Notice(NAME, kind, number, deadline, f"AWS {does} from {clock_words(when)} on")

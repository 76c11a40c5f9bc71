"""Amazon's instance metadata, version 2 (or 1, where ``optional``)."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

from .serving import by_hand
from .tokens import TokenFake

SPOT = "spot/instance-action"
REBALANCE = "events/recommendations/rebalance"
SCHEDULED = "events/maintenance/scheduled"


class FakeAws(TokenFake):
    """A spot instance."""

    token_header = "X-aws-ec2-metadata-token"
    ttl_header = "X-aws-ec2-metadata-token-ttl-seconds"

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.values |= {"instance-id": "i-0123456789abcdef0", "instance-life-cycle": "spot", SCHEDULED: "[]"}

    def mark(self, seconds: float = 120.0, action: str = "terminate") -> None:
        """To be taken back in so many seconds."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now() + seconds))
        self.values[SPOT] = json.dumps({"action": action, "time": when})

    def withdraw(self) -> None:
        """Not taken back."""
        self.values.pop(SPOT, None)

    def advise(self) -> None:
        """Rebalance."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now()))
        self.values[REBALANCE] = json.dumps({"noticeTime": when})

    def schedule(self, seconds: float = 600.0, code: str = "instance-reboot", state: str = "active") -> None:
        """Maintenance from so many seconds on."""
        begin, end = (formatdate(self.now() + each, usegmt=True)[5:] for each in (seconds, seconds + 7200))
        event = {
            "NotBefore": begin, "NotAfter": end, "Code": code, "Description": "scheduled",
            "EventId": "instance-event-1", "State": state,
        }  # fmt: skip
        self.values[SCHEDULED] = json.dumps([event])


if __name__ == "__main__":
    by_hand(
        FakeAws,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        lambda fake: {name: getattr(fake, name) for name in ("mark", "withdraw", "advise", "schedule")},
    )

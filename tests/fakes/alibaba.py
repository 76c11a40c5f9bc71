"""Alibaba's instance metadata."""

from __future__ import annotations

import time

from .serving import by_hand
from .tokens import TokenFake

SPOT = "instance/spot/termination-time"


class FakeAlibaba(TokenFake):
    """A preemptible instance."""

    token_header = "X-aliyun-ecs-metadata-token"
    ttl_header = "X-aliyun-ecs-metadata-token-ttl-seconds"

    def mark(self, seconds: float = 300.0) -> None:
        """To be released in so many seconds."""
        self.values[SPOT] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now() + seconds))

    def withdraw(self) -> None:
        """Not released."""
        self.values.pop(SPOT, None)


if __name__ == "__main__":
    by_hand(
        FakeAlibaba,
        "CKPTD_ALIBABA_METADATA",
        lambda fake: {name: getattr(fake, name) for name in ("mark", "withdraw")},
    )

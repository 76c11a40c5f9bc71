"""Google's metadata server, long polls included."""

from __future__ import annotations

import secrets
import threading
import time

from .serving import Asked, Fake, Reply, by_hand

_BASE = "/computeMetadata/v1/"
_FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
PREEMPTED = "instance/preempted"
MAINTENANCE = "instance/maintenance-event"


class FakeGcp(Fake):
    """A spot machine. Each path has an ETag of its own."""

    def __init__(self, port: int = 0) -> None:
        self._changed = threading.Condition()
        self._values: dict[str, tuple[str, str]] = {}
        self.holds = True
        """Whether it waits for a change at all."""
        for path, value in (
            (PREEMPTED, "FALSE"),
            (MAINTENANCE, "NONE"),
            ("instance/scheduling/preemptible", "TRUE"),
        ):
            self.set(path, value)
        super().__init__(port)

    def set(self, path: str, value: str) -> None:
        """A new value, and whoever waits for it hears of it."""
        with self._changed:
            self._values[path] = (value, secrets.token_hex(8))
            self._changed.notify_all()

    def mark(self) -> None:
        """Preempted: gone in 30 s."""
        self.set(PREEMPTED, "TRUE")

    def withdraw(self) -> None:
        """Not preempted."""
        self.set(PREEMPTED, "FALSE")

    def maintain(self, value: str = "TERMINATE_ON_HOST_MAINTENANCE") -> None:
        """The host goes into maintenance; 'NONE': it is over."""
        self.set(MAINTENANCE, value)

    def reply(self, asked: Asked) -> Reply:
        """403, 404, 400, or a value, now or when it changes."""
        if asked.all("Metadata-Flavor") != ["Google"] or asked.all("X-Forwarded-For"):
            return Reply(403, "Forbidden", _FLAVOR)
        path = asked.path.removeprefix(_BASE)
        if asked.method != "GET" or not asked.path.startswith(_BASE) or path not in self._values:
            return Reply(404, "Not Found", _FLAVOR)
        seconds = asked.query.get("timeout_sec", "60")
        if not seconds.replace(".", "", 1).isdigit():
            return Reply(400, "Bad Request", _FLAVOR)
        with self._changed:
            if asked.query.get("wait_for_change") == "true" and self.holds:
                self._wait(path, asked.query.get("last_etag", self._values[path][1]), float(seconds))
            value, etag = self._values[path]
        return Reply(200, value, {**_FLAVOR, "ETag": etag, "Content-Type": "application/text"})

    def _wait(self, path: str, etag: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._values[path][1] == etag and not self.over.is_set():
            left = until - time.monotonic()
            if left <= 0 or self.trouble:
                return
            self._changed.wait(min(left, 0.2))


if __name__ == "__main__":
    by_hand(
        FakeGcp,
        "GCE_METADATA_HOST",
        lambda fake: {name: getattr(fake, name) for name in ("mark", "withdraw", "maintain")},
    )

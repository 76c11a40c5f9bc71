"""What the parts of a supervisor share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckptd.daemon.attempt import Attempt
from ckptd.daemon.ledger import Ledger
from ckptd.daemon.loop import Loop, Signals
from ckptd.daemon.news import News
from ckptd.daemon.places import Place, SegmentFolder
from ckptd.daemon.processes import Tree
from ckptd.daemon.resume import Base
from ckptd.daemon.server import Server
from ckptd.daemon.terminal import Terminal
from ckptd.daemon.voice import Voice
from ckptd.daemon.writer import Committed, Writer
from ckptd.metrics.figures import Figures
from ckptd.settings import Settings
from ckptd.store.layout import JobFolder

if TYPE_CHECKING:
    from ckptd.daemon.service import Service
    from ckptd.daemon.uploads import Uploads
    from ckptd.metrics.exporter import Exporter


@dataclass(frozen=True)
class Command:
    """The program, as it is started."""

    argv: list[str]
    path: str
    """The file that argv[0] names."""
    reachable: bool
    """The agent can get into it."""
    why: str = ""
    """If not: one sentence."""


@dataclass
class Stop:
    """What became of a request to ckptd itself to stop."""

    signal: int = 0
    """The signal that asked for it; 0: nobody did, or it failed."""
    cause: str = ""
    """What it is for, in words, where it was not a signal to ckptd."""
    revocable: bool = False
    """It was for a notice alone, which may be withdrawn."""
    passed_on: bool = False
    """The user gave up waiting."""
    failed: bool = False
    """A stop was asked for, and the dump for it failed."""
    deadline: float = 0.0
    """When the grace of the request is over, by the loop's clock; 0: there was none."""


@dataclass
class Context:
    """What a supervisor works with, and where its job stands."""

    command: Command
    settings: Settings
    folder: JobFolder
    ledger: Ledger
    loop: Loop
    server: Server
    place: Place
    segments: SegmentFolder
    writer: Writer
    signals: Signals
    terminal: Terminal
    voice: Voice
    tree: Tree
    news: News
    stop: Stop = field(default_factory=Stop)
    attempt: Attempt | None = None
    """The present start of the program; None in between."""
    newest: Base | None = None
    """The newest checkpoint of this run, as far as known."""
    recovered: dict[str, Committed] = field(default_factory=dict)
    """Checkpoints whose copies a ckptd that was killed had left in memory, by dump."""
    uploads: Uploads | None = None
    """Where there is a remote."""
    service: Service | None = None
    """Where a service manager wants to be told."""
    figures: Figures = field(default_factory=Figures)
    exporter: Exporter | None = None
    """Where somebody wants to read them (--metrics-port)."""

    def offer(self, base: Base) -> None:
        """Have a checkpoint uploaded, if there is a remote."""
        if self.uploads is not None and base.path is not None:
            self.uploads.offer(base.path, self.ledger.record.created)

    def hear_uploads(self) -> None:
        """There is something to tell of the remote, and to keep in the record."""
        for done in self.uploads.results() if self.uploads is not None else []:
            if text := getattr(done.value, "text", ""):
                self.voice.say(text)
            facts = getattr(done.value, "facts", None) or {}
            before = self.ledger.record.extra.get("remote")
            self.ledger.write(remote=facts)
            if facts.get("at") and facts["at"] != (before.get("at") if isinstance(before, dict) else None):
                self.news.tell("uploaded", checkpoint=facts.get("uploaded"), step=facts.get("step"))

    def hurry(self, urgent: bool) -> None:
        """A dump is urgent, or not any more: meanwhile nothing is uploaded."""
        if self.uploads is not None:
            (self.uploads.hold if urgent else self.uploads.go)()

"""What the parts of a supervisor share."""

from __future__ import annotations

from dataclasses import dataclass, field

from ckptd.daemon.attempt import Attempt
from ckptd.daemon.ledger import Ledger
from ckptd.daemon.loop import Loop, Signals
from ckptd.daemon.places import Place, SegmentFolder
from ckptd.daemon.processes import Tree
from ckptd.daemon.resume import Base
from ckptd.daemon.server import Server
from ckptd.daemon.terminal import Terminal
from ckptd.daemon.voice import Voice
from ckptd.daemon.writer import Writer
from ckptd.settings import Settings
from ckptd.store.layout import JobFolder


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
    passed_on: bool = False
    """The user gave up waiting."""
    failed: bool = False
    """A stop was asked for, and the dump for it failed."""


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
    stop: Stop = field(default_factory=Stop)
    attempt: Attempt | None = None
    """The present start of the program; None in between."""
    newest: Base | None = None
    """The newest checkpoint of this run, as far as known."""

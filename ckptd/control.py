"""What a user's command and a supervisor, or the daemon, say to each other: plain dataclasses on the job's socket.

The socket is that of the agent's protocol (ckptd.protocol), and frames are made as there. A request carries an id of
the client's choice (``ask``); each is answered by one Reply, but for Follow, which is answered by News until the
client goes. Whoever can open the socket is the job's user, or root: its folder is of mode 0700.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ckptd.protocol import Message

# ---- to a supervisor ----------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Request(Message):
    """Base of all requests."""

    ask: str


@dataclass(eq=False, repr=False)
class Look(Request):
    """How do you fare? Answered at once, with facts."""


@dataclass(eq=False, repr=False)
class Mind(Request):
    """The daemon listens for notices in this job's place, and asks again within ``seconds``. Answered as Look."""

    seconds: float


@dataclass(eq=False, repr=False)
class Save(Request):
    """Take a checkpoint now, and let training go on. Answered when it is durable, or has failed."""


@dataclass(eq=False, repr=False)
class Halt(Request):
    """Save the job and end it, as SIGTERM to its ckptd does. Answered at once; the process then ends."""

    grace: float | None = None
    """Seconds; None: as the job was started with."""
    unsaved: bool = False
    """End it at once, without a checkpoint."""


@dataclass(eq=False, repr=False)
class Tell(Request):
    """A notice that was heard elsewhere: ckptd.notices.event.Notice, field by field."""

    source: str
    kind: str
    id: str
    deadline: float | None
    text: str
    withdrawn: bool = False
    on_notice: str = ""
    """What to do about it, other than the job was started with: see ckptd.settings.ON_NOTICE."""


@dataclass(eq=False, repr=False)
class Follow(Request):
    """Tell me what happens, as News, until I am gone."""


# ---- to the daemon ------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Start(Request):
    """Start a job for which there is an order (ckptd.host.order), unless it runs. Answered when it does."""

    job: str


# ---- answers ------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Reply(Message):
    """The answer to a request."""

    ask: str
    status: int
    """0, or the exit status of the error that ``text`` tells."""
    text: str
    facts: dict[str, Any]


@dataclass(eq=False, repr=False)
class News(Message):
    """Something happened. docs/protocol.md has the names."""

    name: str
    at: float
    """Monotonic seconds."""
    facts: dict[str, Any]

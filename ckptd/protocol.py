"""The wire protocol between agent and supervisor: plain dataclasses, msgpack, one version.

A message is one ZeroMQ frame: the msgpack array ``[VERSION, kind, fields]``, where ``kind`` is the
class name in lower case and ``fields`` a map. The agent's DEALER speaks to the supervisor's ROUTER
over ``ipc://`` in a folder of mode 0700. docs/protocol.md explains the conversation.

Times are ``time.monotonic()`` seconds, which on Linux is one clock for all processes of a host.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import msgpack

from ckptd.errors import ProtocolError

VERSION = 1
MAX_BYTES = 1 << 20
"""No message is larger: tensors and graphs travel through shared memory, never over the socket."""
MAX_INWARD = 1 << 15
"""Nor is one to a supervisor or the daemon larger than this: many may talk at a time, and none is trusted to stop."""
MAX_PARTS = 10_000
"""Lists and maps in a message: an empty one takes a byte there, and sixty here."""
MAX_NUMBER = 1 << 53
"""Numbers are finite, and no further from 0."""
DRILL = "drill"
"""The reason of a dump that is rehearsed: all is as for a notice, but what is late is not ended for it."""
DRILL_SPARE = 600.0
"""Seconds beyond its deadline for which it isn't."""


@dataclass(eq=False, repr=False)
class Message:
    """Base of all messages."""

    kinds: ClassVar[dict[str, type[Message]]] = {}

    # Written out once: dataclass() would make them anew for each kind, in each process that starts.

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({values})"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Message.kinds[cls.__name__.lower()] = cls


# ---- agent -> supervisor ------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Hello(Message):
    """The agent is armed: the process has begun to import torch, or is about to resume."""

    pid: int
    rank: int
    world_size: int
    argv: list[str]
    python: str
    resume: str = ""
    """Folder of the checkpoint that this process resumes from, or ''."""


@dataclass(eq=False, repr=False)
class Progress(Message):
    """Where training stands; sent at most once a second while something changes."""

    step: int
    """Training iterations done, counted over the whole life of the job."""
    loss: float | None = None
    """The last scalar that backward was called on, if the agent could read it without waiting, and it was finite."""
    step_seconds: float | None = None
    """Mean length of a step since the last Progress."""


@dataclass(eq=False, repr=False)
class Notice(Message):
    """A signal that asks the process to end has reached it."""

    signal: int
    """Signal number."""


@dataclass(eq=False, repr=False)
class Due(Message):
    """By the agent's own count of steps a periodic checkpoint is due (``--every 500steps``)."""

    step: int


@dataclass(eq=False, repr=False)
class Copying(Message):
    """The copy to leave with has begun: what it has already may be written while the rest of it is copied."""

    dump: str
    segment: str
    """As in Dumped."""


@dataclass(eq=False, repr=False)
class Dumped(Message):
    """The copy in shared memory is complete: the supervisor owns the segment from here on."""

    dump: str
    segment: str
    """Path of the segment (ckptd.memory.segment)."""
    step: int
    seconds: float
    """How long training stood still for it."""


@dataclass(eq=False, repr=False)
class Undumped(Message):
    """No dump was made."""

    dump: str
    why: str
    """One sentence."""


@dataclass(eq=False, repr=False)
class Resumed(Message):
    """The saved state has been grafted; the program runs on from here."""

    step: int
    seconds: float
    """From the start of the process to this moment."""


@dataclass(eq=False, repr=False)
class Refused(Message):
    """The resume would not be exact. The process ends without having changed anything."""

    why: str
    """One sentence: what and where, and the way out."""
    damaged: bool = False
    """The checkpoint is not what was written: an older one may do."""


@dataclass(eq=False, repr=False)
class Finished(Message):
    """The program has come to its end by itself; what is left is the interpreter's own tidying up."""


@dataclass(eq=False, repr=False)
class Said(Message):
    """Something that the user should read once."""

    text: str
    note: bool = False
    """It is true of the job as it is run now: it is kept in the job's record until the program is started again."""


# ---- supervisor -> agent ------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class Welcome(Message):
    """Answer to Hello."""

    every_steps: int = 0
    """Ask for a dump (Due) whenever this many steps have gone by; 0: never."""


@dataclass(eq=False, repr=False)
class Dump(Message):
    """Take a dump at the next safe point."""

    dump: str
    """Id of this request; comes back in Dumped or Undumped."""
    reason: str
    """'signal', 'stop', 'notice', 'periodic', 'user' or DRILL."""
    deadline: float
    """Monotonic seconds by which the checkpoint should be durable."""
    leave: bool
    """True: the process ends once the checkpoint is committed. False: training goes on."""


@dataclass(eq=False, repr=False)
class Saved(Message):
    """The checkpoint is committed."""

    dump: str
    checkpoint: str
    step: int


@dataclass(eq=False, repr=False)
class Unsaved(Message):
    """The dump could not be made durable; training goes on."""

    dump: str
    why: str


def pack(message: Message, limit: int = MAX_BYTES) -> bytes:
    """Encode a message for the wire. Raises ProtocolError: it is too long, or no wire has room for its values."""
    try:
        # What is no text (names of files may be any bytes) is told with question marks.
        data: bytes = msgpack.packb(
            [VERSION, type(message).__name__.lower(), asdict(message)],
            use_bin_type=True,
            unicode_errors="replace",
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"{type(message).__name__} can't be told: {error}") from error
    if len(data) > limit:
        raise ProtocolError(f"a message of {len(data)} bytes is longer than the {limit} allowed")
    return data


def pack_inward(message: Message) -> bytes:
    """Encode a message for a supervisor: where it is too long its texts are cut. Raises ProtocolError."""
    try:
        return pack(message, MAX_INWARD)
    except ProtocolError:
        cut = {name: _cut(value) for name, value in vars(message).items()}
        return pack(type(message)(**cut), MAX_INWARD)


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONG else f"{value[: _LONG - 4]} ..."
    if isinstance(value, list):
        return [f"{each[:_SHORT]}" for each in value[:_SOME]]
    return value


_LONG, _SOME, _SHORT = 4000, 16, 200
"""Letters of a text, words of a list, and letters of each, in a message that was too long."""


def unpack(data: bytes) -> Message:
    """Decode one frame; raises ProtocolError for whatever is not a message of ours."""
    if len(data) > MAX_BYTES:
        raise ProtocolError(f"a message of {len(data)} bytes is longer than the {MAX_BYTES} allowed")
    try:
        parts = _Parts()
        version, kind, values = msgpack.unpackb(
            data, raw=False, max_ext_len=0, list_hook=parts.count, object_hook=parts.count
        )
        cls = Message.kinds[kind]
    except Exception as error:
        raise ProtocolError(f"not a message: {type(error).__name__}") from error
    if version != VERSION:
        raise ProtocolError(f"protocol version {version!r} is not {VERSION}")
    return _build(cls, values)


class _Parts:
    """Counts lists and maps while they are decoded."""

    def __init__(self) -> None:
        self._found = 0

    def count(self, part: Any) -> Any:
        self._found += 1
        if self._found > MAX_PARTS:
            raise ValueError("too many parts")
        return part


def _build(cls: type[Message], values: object) -> Message:
    if not isinstance(values, dict):
        raise ProtocolError(f"{cls.__name__}: fields are not a map")
    known = {f.name: f for f in fields(cls)}
    if set(values) - set(known):
        raise ProtocolError(f"{cls.__name__}: unknown fields {sorted(map(str, set(values) - set(known)))}")
    for name, value in values.items():
        if not _fits(value, str(known[name].type)):
            raise ProtocolError(f"{cls.__name__}.{name}: {type(value).__name__} is not {known[name].type}")
    try:
        return cls(**values)
    except TypeError as error:
        raise ProtocolError(f"{cls.__name__}: {error}") from error


def _fits(value: object, annotation: str) -> bool:
    kinds: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (int, float),
        "float | None": (int, float, type(None)),
        "str": (str,),
        "bool": (bool,),
        "list[str]": (list,),
        "dict[str, Any]": (dict,),
    }
    if isinstance(value, bool) and annotation != "bool":
        return False
    if isinstance(value, int | float) and not -MAX_NUMBER <= value <= MAX_NUMBER:  # nan isn't, either
        return False
    if annotation == "list[str]":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if annotation == "dict[str, Any]":
        return isinstance(value, dict) and all(isinstance(name, str) for name in value)
    return isinstance(value, kinds[annotation])

"""What the rewriting knows of the user's code: its modules, code objects, loops and calls.

Filled by the finder when a module is compiled, read at a capture and during a replay. Loops have
small integers for the rewritten code and stable keys for the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from ckptd_agent.source.effects import Effects

Span = tuple[int, int, int, int]
"""Line, column, end line, end column, as in ast; columns are UTF-8 bytes."""

Shape = Any
"""Target of a for loop: None for a single name, a tuple for a sequence; () stands for a starred name."""

CLEAN, NAMES, DIRTY = range(3)
"""What lies on the value stack below a call while it runs: nothing that matters; values of names and
attributes, which are read again from restored variables; results of other calls, which are not."""


@dataclass(frozen=True)
class Loop:
    """One instrumented loop."""

    id: int
    key: tuple[str, int]
    """Module name and number within the module: the same in every run of the same source."""
    where: str
    """'file.py:12', for people."""
    nested: bool
    """It lies in another instrumented loop of the same function."""
    function: str
    """Name of its function, '<module>' at module level."""
    active: Span
    """Where the loop is under way: its body, and the condition of a while loop, but not the iterable of a for
    loop, its else clause or its end."""
    test: tuple[Span, ...] = ()
    """Of a while loop: where its condition stands."""
    shape: Shape = None
    """Of a for loop's target, so that a replay can bind it to something of the right shape."""


@dataclass(frozen=True)
class Call:
    """One call expression, and what waits on the value stack below it."""

    span: Span
    callee: str
    """Last component of what is called, or ''."""
    repeats: bool
    """By its name it is written in C, and may call functions of the user's many times."""
    below: int
    """CLEAN, NAMES or DIRTY."""
    reads: frozenset[str]
    """What the values below were made from: see ckptd_agent.source.operands."""
    statement: int
    """Number of the replay hook before its statement, or 0 if there is none."""


@dataclass(frozen=True)
class Branch:
    """One if statement; see ckptd_agent.source.branches."""

    spans: tuple[Span | None, Span | None]
    """Of its body and of its else."""
    leaves: tuple[bool, bool]
    """Whether these always end by leaving the loop or the function."""


@dataclass(frozen=True)
class Passable:
    """One statement that a replay whose place lies behind it may pass over; see ckptd_agent.source.passing."""

    span: Span
    names: frozenset[str]
    """Variables that it binds."""
    only_data: bool
    """Only if they hold plain data: what else it may have made would not be made again."""


@dataclass
class Source:
    """One module of the user's."""

    name: str
    path: str
    sha256: str
    calls: dict[int, list[Call]] = field(default_factory=dict)
    """By first line of the enclosing statement."""
    effects: Effects = field(default_factory=dict)
    """What the functions of the module, and of those that it imports, may change."""
    finals: list[tuple[int, int]] = field(default_factory=list)
    """First and last lines of finally clauses: what is pending while one runs lies on the value stack."""
    tries: list[tuple[int, int]] = field(default_factory=list)
    """First and last lines of what stands below a try whose handlers may catch an error."""
    bare: set[tuple[int, str]] = field(default_factory=set)
    """(first line, name) of functions that are not instrumented."""
    left: dict[int, str] = field(default_factory=dict)
    """By line: why a loop there is left as it is. (``ckptd check`` shows it.)"""


SOURCES: dict[str, Source] = {}
"""By module name."""
LOOPS: list[Loop] = [Loop(0, ("", 0), "the program", False, "", (0, 0, 0, 0))]
"""By id; number 0 stands for the whole program."""
KEYS: dict[tuple[str, int], int] = {("", 0): 0}
"""Key to id."""
BRANCHES: list[Branch] = []
"""By number."""
PASSABLES: list[Passable] = []
"""By number."""
CODES: dict[int, tuple[CodeType, Source]] = {}
"""id() of every code object of the user's; the object is held so that the id stays its own."""


def add_loop(key: tuple[str, int], where: str, **facts: Any) -> int:
    """Give a loop its id; a module that is compiled again keeps the ids of its loops."""
    number = KEYS.get(key, len(LOOPS))
    loop = Loop(number, key, where, **facts)
    if number == len(LOOPS):
        LOOPS.append(loop)
        KEYS[key] = number
    else:
        LOOPS[number] = loop
    return number


def add_code(code: CodeType, source: Source) -> None:
    """Register a module's code object and all that are nested in it."""
    for each in nested_codes(code):
        CODES[id(each)] = (each, source)


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """The code object and all that are constants of it, however deep."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_codes(constant)


def source_of(code: CodeType) -> Source | None:
    """The user's module that a code object belongs to, or None."""
    entry = CODES.get(id(code))
    return entry[1] if entry is not None else None


def code_key(code: CodeType) -> tuple[str, str, int]:
    """What names a code object in a checkpoint: module, qualified name, first line."""
    source = source_of(code)
    name = getattr(code, "co_qualname", code.co_name)
    return (source.name if source else "", name, code.co_firstlineno)

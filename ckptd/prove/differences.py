"""Where two runs of the same program part: event by event, and in what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from ckptd.prove.events import KINDS, PRIMARY, Event, Item, read_events, read_steps

KEPT = 20
"""Events that differ are kept in full up to this number; of the others only the count."""
MISSING = "nothing"
GLOBAL = "rng:"
"""How the names of global random generators begin."""


@dataclass(frozen=True)
class Change:
    """One thing that isn't what it was in the plain run."""

    name: str
    kind: str
    plain: str
    """What people are shown of it; 'nothing' where it was not there."""
    other: str


@dataclass(frozen=True)
class Parting:
    """One event at which two runs differ."""

    where: str
    """'step' (after it), 'resume' (what was restored against what was saved) or 'length'."""
    step: int
    changes: list[Change]


@dataclass
class Partings:
    """All of them, in their order."""

    first: list[Parting] = field(default_factory=list)
    """The first KEPT."""
    count: int = 0
    names: set[str] = field(default_factory=set)
    """All names that differ anywhere."""
    kinds: set[str] = field(default_factory=set)

    def add(self, where: str, step: int, changes: list[Change]) -> None:
        """Note an event, if anything differs at it."""
        if not changes:
            return
        self.count += 1
        self.names.update(change.name for change in changes)
        self.kinds.update(change.kind for change in changes)
        if len(self.first) < KEPT:
            self.first.append(Parting(where, step, changes))

    @property
    def in_training(self) -> bool:
        """Loss, parameters, buffers or optimizers differ, or the number of steps."""
        return bool(self.kinds.intersection(PRIMARY))


@dataclass
class Survey:
    """What one journal holds in all."""

    events: int = 0
    steps: list[int] = field(default_factory=list)
    """The numbers of the steps, each once, in their order."""
    kinds: Counter[str] = field(default_factory=Counter)
    """How many things of each kind, at the most."""
    used: set[str] = field(default_factory=set)
    """Global random generators that were drawn from or seeded between the first line and the last."""
    failed: str = ""
    """Why the digests end before the program does; ''."""
    about: dict[str, object] = field(default_factory=dict)
    """Versions and device."""


def survey(path: Path) -> Survey:
    """Read a plain run's journal as a whole."""
    found = Survey()
    first: dict[str, Item] = {}
    for event in read_events(path):
        if event.kind == "start":
            found.about = found.about or event.more
            first = first or event.items
        elif event.kind == "failed":
            found.failed = str(event.more["why"])
        elif event.kind == "step":
            found.events += 1
            if "device" in event.more:
                found.about = {"device": event.more["device"], **found.about}
            if event.step not in found.steps[-1:]:
                found.steps.append(event.step)
            for kind, number in Counter(item.kind for item in event.items.values()).items():
                found.kinds[kind] = max(found.kinds[kind], number)
            found.used.update(
                name for name, item in event.items.items() if name in first and item != first[name]
            )
    return found


def compare_items(plain: dict[str, Item], other: dict[str, Item], left_out: set[str]) -> list[Change]:
    """What differs, in the order of KINDS and then of the names in the program."""
    changes = []
    for name in dict.fromkeys((*plain, *other)):
        ours, theirs = plain.get(name), other.get(name)
        if name in left_out or (ours is not None and theirs is not None and ours.digest == theirs.digest):
            continue
        if ours is None and name.startswith(GLOBAL):
            continue  # the agent has imported a library that the program doesn't draw from
        known = ours or theirs
        assert known is not None
        changes.append(Change(name, known.kind, _shown(ours), _shown(theirs)))
    return sorted(changes, key=lambda change: KINDS.index(change.kind))


def _shown(item: Item | None) -> str:
    return MISSING if item is None else item.shown


def compare_plain(one: Path, two: Path) -> Partings:
    """Two runs that nobody stopped."""
    partings = Partings()
    for ours, theirs in zip_longest(read_steps(one), read_steps(two)):
        if ours is None or theirs is None:
            _add_length(partings, ours, theirs)
            break
        partings.add("step", ours.step, compare_items(ours.items, theirs.items, set()))
    return partings


def compare_stopped(plain: Path, stopped: Path, left_out: set[str], *, ended: bool = True) -> Partings:
    """A run that was stopped against one that was not; ``left_out`` are names that differ anyway.

    With ``ended`` false the stopped run may break off.
    """
    partings = Partings()
    pairs = _Pairs(plain)
    dumped: dict[int, tuple[int, Event]] = {}
    for event in read_events(stopped):
        if event.kind == "dumped":
            dumped[event.step] = (pairs.number, event)
        elif event.kind == "resumed" and event.step in dumped:
            pairs.number, saved = dumped[event.step]
            here = {name: item for name, item in event.items.items() if name in saved.items}
            there = {name: item for name, item in saved.items.items() if name in here}
            # The same process in another life: here even what differs from run to run must be the same.
            partings.add("resume", event.step, compare_items(there, here, set()))
        elif event.kind == "step":
            ours = pairs.next()
            if ours is None:
                _add_length(partings, None, event)
                return partings
            partings.add("step", event.step, compare_items(ours.items, event.items, left_out))
    missing = pairs.next() if ended else None
    if missing is not None:
        _add_length(partings, missing, None)
    return partings


def _add_length(partings: Partings, plain: Event | None, other: Event | None) -> None:
    step = (plain or other).step  # type: ignore[union-attr]
    shown = [MISSING if event is None else f"step {event.step}" for event in (plain, other)]
    partings.add("length", step, [Change("the number of steps", "loss", *shown)])


class _Pairs:
    """The plain run's steps by their place; to go back means to read again from the start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        """Place of the next step."""
        self._at = 0
        self._steps: Iterator[Event] = read_steps(path)

    def next(self) -> Event | None:
        """The step at ``number``; None behind the last."""
        if self._at > self.number:
            self._at, self._steps = 0, read_steps(self.path)
        found: Event | None = None
        while self._at <= self.number:
            found = next(self._steps, None)
            self._at += 1
        self.number += 1
        return found

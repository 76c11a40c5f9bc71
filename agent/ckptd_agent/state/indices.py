"""The indices that a DataLoader iterator draws: what is noted of them, and how they are drawn again."""

from __future__ import annotations

import re
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch

from ckptd_agent.state import rng, workers


@dataclass
class Log:
    """What is noted of one DataLoader iterator while it runs."""

    loader: Any
    created: dict[str, Any]
    """Random state when it was made (or reset, with persistent workers)."""
    first: dict[str, Any] | None = None
    """Random state at the first draw of an index."""
    drawn: int = 0
    hash: int = 0
    """Rolling hash over all indices drawn."""
    ahead: deque[int] = field(default_factory=deque)
    """The hash after each batch of indices that was drawn but not yielded yet, and after the last yielded."""
    skip: int = 0
    """A resume: so many batches of indices are to be drawn and thrown away before the first is used."""
    expected: int = 0
    """The hash that must come out of that."""
    ring: workers.Ring | None = None
    """Where the workers note their random state; None where they are not forked, or there are none."""

    def batches(self, worker: int, yielded: int) -> int:
        """How many of the first ``yielded`` batches (those drawn after a skip) the worker made."""
        assert self.ring is not None
        return sum(1 for number in range(self.skipped, yielded) if number % self.ring.workers == worker)

    def begin_behind(self) -> None:
        """A resume whose sampler is there already: what was drawn before counts as drawn."""
        self.drawn, self.hash = self.skip, self.expected
        self.ahead.append(self.hash)

    watched: bool = False
    """The sampler is the program's own: it may draw from the global generators as it goes."""
    before: dict[str, Any] | None = None
    """Their state as a draw began, where it is watched."""
    left: dict[str, Any] | None = None
    """The state that its last draw left these in."""
    lazy: bool = False
    """It drew after somebody else had: the same indices can't be drawn again, so it is state like any other."""
    pending: deque[Any] = field(default_factory=deque)
    """Batches of indices that a sampler which is watched gave, the last ones of which were not yielded yet."""
    sampler: Any = None
    """A resume: the sampler's iterator, where it had been, to be put in place before the first draw."""
    given: deque[Any] = field(default_factory=deque)
    """A resume: what that had given ahead of the program, to be drawn first."""
    ended: bool = False
    """The sampler has no more."""
    skipped: int = 0
    """Batches that a resume skipped: no worker of this process made them."""


@dataclass
class Resume:
    """What the log of an iterator that a resume makes begins with; see Log."""

    first: dict[str, Any] | None
    skip: int
    expected: int
    sampler: Any = None
    given: list[Any] = field(default_factory=list)

    def begin(self, log: Log) -> None:
        """Fill in a fresh log."""
        log.first, log.skip, log.expected, log.sampler = self.first, self.skip, self.expected, self.sampler
        log.skipped, log.lazy = self.skip, self.sampler is not None
        log.given.extend(self.given)


logs: weakref.WeakKeyDictionary[Any, Log] = weakref.WeakKeyDictionary()
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def has_own_sampler(loader: Any) -> bool:
    """Not one of torch's, which draw all that they need when they begin."""
    batches = getattr(loader, "batch_sampler", None)
    samplers = (getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None))
    return any(each is not None and not type(each).__module__.startswith("torch.") for each in samplers)


def global_state() -> dict[str, Any]:
    """The global random generators of this process, without the devices'."""
    states = rng.take()
    states.pop("cuda")
    return states


def own_generators(loader: Any) -> list[torch.Generator]:
    """The generators that the loader's sampler draws from, other than the global one."""
    sampler = getattr(loader, "sampler", None)
    inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    found = [getattr(each, "generator", None) for each in (loader, sampler, inner)]
    unique = {id(each): each for each in found if isinstance(each, torch.Generator)}
    return list(unique.values())


def take(loader: Any) -> dict[str, Any]:
    """The states of all generators that a loader may draw from."""
    states = rng.take()
    states["own"] = [each.get_state().numpy().tobytes() for each in own_generators(loader)]
    return states


def put(loader: Any, states: dict[str, Any]) -> None:
    """Set them again."""
    rng.put(states)
    for generator, state in zip(own_generators(loader), states["own"], strict=True):
        generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def fold(value: int, index: Any) -> int:
    """The next value of the rolling hash. Hashes of numbers are the same in all processes; those of strings are,
    as the hash seed is kept; others (up to Python 3.11 that of None) may be made of an address."""
    many = index if isinstance(index, list | tuple) else (index,)
    if all(type(each) in (int, str) for each in many):
        return hash((value, *many))
    return hash((value, *(_ADDRESS.sub("", repr(each)) for each in many)))


def skip_indices(iterator: Any, log: Log) -> None:
    """Draw the batches of indices that had been yielded before; RefusedError if they are not the same."""
    from ckptd.errors import RefusedError

    for _ in range(log.skip):
        try:
            iterator._next_index()
        except StopIteration:
            break
    if log.drawn != log.skip or log.hash != log.expected:
        raise RefusedError(
            f"a DataLoader's sampler gives other indices than in the first run (of {log.skip} batches): it draws "
            "from a random generator whose state can't be had, or the data changed. "
            "Give the sampler a generator of its own"
        )

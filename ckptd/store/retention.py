"""Which checkpoints stay: a policy in the words of ``--keep-...``, and what follows from it. See docs/retention.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckptd.store.index import Entry

HOUR = 3600.0


@dataclass(frozen=True)
class Best:
    """``--keep-best N[:metric[:max]]``."""

    count: int
    metric: str = "loss"
    largest: bool = False


@dataclass(frozen=True)
class Policy:
    """What is to stay; 0, or empty: no such rule."""

    last: int = 0
    every_steps: int = 0
    every_seconds: float = 0.0
    hourly: int = 0
    within: float = 0.0
    """Seconds before the newest checkpoint."""
    best: tuple[Best, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """It has no rule at all."""
        return self == Policy()


@dataclass(frozen=True)
class Mark:
    """What ``ckptd pin`` has said of a checkpoint."""

    pinned: bool = False
    tags: tuple[str, ...] = ()


@dataclass
class Verdict:
    """What becomes of one checkpoint, and why."""

    entry: Entry
    why: list[str] = field(default_factory=list)
    """Each rule that keeps it, in words."""
    gone: str = ""
    """Why it goes; '' if it stays."""

    @property
    def keep(self) -> bool:
        """It stays."""
        return not self.gone

    @property
    def weak(self) -> bool:
        """Only ``--keep-last`` keeps it: it may go where the disk runs low."""
        return not self.gone and all(word.startswith("last ") for word in self.why)


def decide(entries: Sequence[Entry], policy: Policy, marks: dict[str, Mark] | None = None) -> list[Verdict]:
    """What becomes of the checkpoints of one job, given oldest first, as ckptd.store.index has them.

    The newest that is good always stays. ``marks``: by id.
    """
    marks = marks or {}
    verdicts = {entry.name: Verdict(entry) for entry in entries}
    good = [entry for entry in entries if entry.good]
    left = _left_behind(good)
    line = [entry for entry in good if entry.name not in left] if left else good

    def keep(found: Iterable[Entry], why: Callable[[int], str]) -> None:
        for number, entry in enumerate(found):
            verdicts[entry.name].why.append(why(number))

    keep(good[-1:], lambda _: "newest")
    keep(reversed(line[-policy.last :] if policy.last else []), lambda number: f"last {number + 1}")
    keep(_firsts(good, policy), lambda _: "every")
    keep(_hours(good, policy.hourly), lambda number: f"hour {number + 1}")
    if policy.within and good:
        since = max(entry.created for entry in good) - policy.within
        keep([entry for entry in good if entry.created >= since], lambda _: "within")
    for best in policy.best:
        keep(_best(good, best), lambda number, best=best: f"best {number + 1} by {best.metric}")  # type: ignore[misc]
    for entry in entries if marks else []:
        mark = marks.get(entry.id, Mark())
        tagged = sorted(set(mark.tags) & set(policy.tags))
        keep([entry] if mark.pinned else [], lambda _: "pinned")
        keep([entry] if tagged else [], lambda _, tagged=tagged: f"tagged {tagged[0]}")  # type: ignore[misc]
    for name, ahead in left.items():
        if ahead:
            verdicts[name].why.append("ahead of the branch")
    _judge_damaged(entries, verdicts, max(policy.last, 1))
    for verdict in verdicts.values():
        if not verdict.why and not verdict.gone:
            passed = verdict.entry.name in left
            verdict.gone = "left behind by --from" if passed else "no rule keeps it"
    return [verdicts[entry.name] for entry in entries]


def _left_behind(good: Sequence[Entry]) -> dict[str, bool]:
    """Checkpoints that ``--from`` went back behind, by name; True while the job hasn't come as far again."""
    if not good:
        return {}
    newest = good[-1]
    begins: dict[int, int] = {}
    for entry in good:
        if entry.branch:
            begins[entry.branch] = entry.branch_step
    if not begins:
        return {}
    return {
        entry.name: entry.step > newest.step
        for entry in good
        if any(branch > entry.branch and step < entry.step for branch, step in begins.items())
    }


def _firsts(good: Sequence[Entry], policy: Policy) -> list[Entry]:
    """The first in each stretch of steps or of time: it stays the first, whatever follows."""
    found = []
    if policy.every_steps:
        seen: set[int] = set()
        for entry in good:
            stretch = entry.step // policy.every_steps
            if stretch not in seen:
                seen.add(stretch)
                found.append(entry)
    if policy.every_seconds:
        seen = set()
        for entry in sorted(good, key=lambda entry: entry.created):
            stretch = math.floor(entry.created / policy.every_seconds)
            if stretch not in seen:
                seen.add(stretch)
                found.append(entry)
    return found


def _hours(good: Sequence[Entry], count: int) -> list[Entry]:
    """The newest in each of the last ``count`` hours that have any."""
    latest: dict[int, Entry] = {}
    if not count:
        return []
    for entry in sorted(good, key=lambda entry: entry.created):
        latest[math.floor(entry.created / HOUR)] = entry
    return [latest[hour] for hour in sorted(latest, reverse=True)[:count]]


def _best(good: Sequence[Entry], best: Best) -> list[Entry]:
    """Those with the lowest (or largest) figure; what has none, or not a number, is not among them."""
    rated = [
        (float(value), entry)
        for entry in good
        if isinstance(value := entry.figures.get(best.metric), int | float) and math.isfinite(value)
    ]
    rated.sort(key=lambda pair: (-pair[0] if best.largest else pair[0], -pair[1].step))
    return [entry for _, entry in rated[: best.count]]


def _judge_damaged(entries: Sequence[Entry], verdicts: dict[str, Verdict], enough: int) -> None:
    """What can't be read goes once enough good ones are newer; of a newer format, never."""
    newer_good = 0
    for entry in reversed(entries):
        if entry.good:
            newer_good += 1
        elif entry.newer:
            verdicts[entry.name].why.append("of a newer format")
        elif newer_good >= enough and not verdicts[entry.name].why:
            verdicts[entry.name].gone = "damaged"
        else:
            verdicts[entry.name].why.append("damaged, and not enough that are newer")

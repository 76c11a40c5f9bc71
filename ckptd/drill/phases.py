"""From the news of a job to the phases of a drill, and to a verdict. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ckptd.doctor.budget import MARGIN, asked_for, seconds_text
from ckptd.drill.play import OVER, Heard
from ckptd.drill.rehearsal import Rehearsal

SAFE_POINT, COPIED, DURABLE, UPLOADED = "safe point", "copied", "durable", "uploaded"
EXITED, RELAUNCHED, RESUMED, FIRST_STEP = "exited", "relaunched", "resumed", "first step"
LEAVING = frozenset({"heard", "saved once", "asked", SAFE_POINT, COPIED, DURABLE, UPLOADED, EXITED})
"""What should be over by the deadline; what follows happens on the next machine."""
_SLOW = {
    SAFE_POINT: "the program came to its next safe point only after {} (a step, or a loop that isn't followed)",
    COPIED: "the copy into memory took {}",
    DURABLE: "the store's disk took {}",
    UPLOADED: "the upload took {}",
}
_FASTER = {
    SAFE_POINT: "",
    COPIED: "ckptd doctor shows what this machine's memory gives",
    DURABLE: "a faster disk for --store, or --compress (ckptd doctor measures both)",
    UPLOADED: "--every saves and uploads more of it beforehand",
}


@dataclass(frozen=True)
class Phase:
    """One thing that happened."""

    name: str
    after: float
    """Seconds after the notice."""
    took: float
    """Seconds since the phase before."""


@dataclass(frozen=True)
class Verdict:
    """What a drill has shown."""

    holds: bool
    margin: float | None
    """Seconds to spare; less than 0: too late; None: it was never saved."""
    text: str
    mend: str
    """The line that gives more time, or what else helps; ''."""
    saved_step: int | None
    resumed_step: int | None


def phases_of(heard: Sequence[Heard], begun: float) -> list[Phase]:
    """In the order in which they happened; ``begun``: when the notice was played, in monotonic seconds."""
    times = [(name, at - begun) for name, at in _times(heard)]
    times.sort(key=lambda each: each[1])  # the upload may be over before or after the exit
    found, last = [], 0.0
    for name, after in times:
        found.append(Phase(name, after, after - last))
        last = after
    return found


def _times(heard: Sequence[Heard]) -> Iterable[tuple[str, float]]:
    if (notice := _first(heard, "notice")) is not None:
        yield "heard", notice.at
    asked, copied = _leaving(heard, "asked"), _leaving(heard, "copied")
    once = next((each for each in heard if each.name == "durable" and not each.facts.get("leave")), None)
    if once is not None and (asked is None or once.at <= asked.at):
        yield "saved once", once.at
    if asked is not None:
        yield "asked", asked.at
    if copied is not None:
        stood = copied.at - float(copied.facts.get("seconds") or 0.0)
        yield SAFE_POINT, max(stood, asked.at) if asked is not None else stood
        yield COPIED, copied.at
        step = copied.facts.get("step")
        later = [each for each in heard if each.at >= copied.at]
        yield from _named(DURABLE, (each for each in later if each.facts.get("step") == step), "durable")
        yield from _named(UPLOADED, (each for each in later if _at_least(each, step)), "uploaded")
    yield from _named(EXITED, heard, "exited")
    spawned = _first(heard, "spawned")
    if spawned is not None:
        yield RELAUNCHED, spawned.at
        later = [each for each in heard if each.at >= spawned.at]
        yield from _named(RESUMED, later, "resumed")
        yield from _named(FIRST_STEP, later, "stepping")
    yield from _named("ended", heard, "gone")


def _named(phase: str, heard: Iterable[Heard], name: str) -> Iterable[tuple[str, float]]:
    for each in heard:
        if each.name == name:
            return [(phase, each.at)]
    return []


def _at_least(heard: Heard, step: object) -> bool:
    there = heard.facts.get("step")
    return isinstance(there, int) and isinstance(step, int) and there >= step


def _first(heard: Sequence[Heard], name: str) -> Heard | None:
    return next((each for each in heard if each.name == name), None)


def _leaving(heard: Sequence[Heard], name: str) -> Heard | None:
    """The last of them that has to do with leaving."""
    return next((each for each in reversed(heard) if each.name == name and each.facts.get("leave")), None)


def judge(heard: Sequence[Heard], phases: Sequence[Phase], rehearsal: Rehearsal, remote: bool) -> Verdict:
    """Whether the job would be saved in time, and what to do if not. ``remote``: it has one."""
    copied, resumed = _leaving(heard, "copied"), _first(heard, "resumed")
    saved_step = copied.facts.get("step") if copied is not None else None
    resumed_step = resumed.facts.get("step") if resumed is not None else None
    unsaved = _leaving(heard, "unsaved")
    at = {phase.name: phase.after for phase in phases}
    if DURABLE not in at:
        why = f": {unsaved.facts.get('why')}" if unsaved is not None else _end(heard)
        return Verdict(False, None, f"not saved{why}", "", saved_step, resumed_step)
    # Where the machine goes, its disk may go too: then what counts is at the remote.
    last = UPLOADED if remote and rehearsal.machine else DURABLE
    if last not in at:
        text = "saved here, but not at the remote, and the machine's disk may go with it"
        return Verdict(False, None, text, _FASTER[UPLOADED], saved_step, resumed_step)
    margin = rehearsal.deadline - at[last]
    if resumed_step is not None and saved_step is not None and resumed_step < saved_step:
        text = (
            f"{saved_step - resumed_step} steps lost: it went on from step {resumed_step}, not {saved_step}"
        )
        return Verdict(False, margin, text, "ckptd logs --own says why", saved_step, resumed_step)
    if margin >= 0:
        tight = ", which is tight" if at[last] > MARGIN * rehearsal.deadline else ""
        text = f"holds: {seconds_text(margin)} to spare of {seconds_text(rehearsal.deadline)}{tight}"
        return Verdict(True, margin, text, "", saved_step, resumed_step)
    name, seconds = _slowest(phases)
    text = f"too late by {seconds_text(-margin)}: {_SLOW[name].format(seconds_text(seconds))}"
    return Verdict(False, margin, text, _mend(rehearsal, name, at[last]), saved_step, resumed_step)


def _end(heard: Sequence[Heard]) -> str:
    """How the job ended, if it did."""
    over = _first(heard, OVER)
    exited = _first(heard, "exited")
    if over is not None:
        return f": the job is {over.facts.get('state')}"
    return ": the program ended first" if exited is not None else ""


def _slowest(phases: Sequence[Phase]) -> tuple[str, float]:
    """Of what it takes to save: a name, and the seconds that it took."""
    legs = [(phase.name, phase.took) for phase in phases if phase.name in _SLOW]
    return max(legs, key=lambda each: each[1])


def _mend(rehearsal: Rehearsal, slow: str, need: float) -> str:
    more = rehearsal.mend.format(need=asked_for(need)) if rehearsal.mend else ""
    if not more:
        least = "ckptd run --every 5m -- CMD keeps small what is lost"
        return "; ".join(filter(None, [_FASTER[slow], least]))
    return "; ".join(filter(None, [more, _FASTER[slow]]))

"""The proof itself: which runs are made, in what order, and what follows from them."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ckptd.errors import CkptdError, RefusedError
from ckptd.prove import outputs
from ckptd.prove.differences import Partings, Survey, compare_plain, compare_stopped, survey
from ckptd.prove.events import read_events
from ckptd.prove.outputs import LeftOut, Unlike
from ckptd.prove.runs import Conditions, Finished, Runner, Stopped
from ckptd.prove.scratch import Copied, Scratch
from ckptd.prove.switches import Remedy, find_remedy

Progress = Callable[[str, int, int], None]
"""Told what runs now, the training events it has done, and how many there will be (0: not known)."""


@dataclass(frozen=True)
class Wishes:
    """What the user asked for."""

    argv: Sequence[str]
    stops: int = 3
    seed: int | None = None
    grace: str = "60s"
    folder: Path = field(default_factory=Path.cwd)
    scratch: Path | None = None
    """Where the copies are made; None: the place for temporary files."""
    link: tuple[Path, ...] = ()
    keep: bool = False


@dataclass
class Proof:
    """All that was found."""

    argv: list[str]
    seed: int
    wanted: int
    """Interruptions asked for."""
    copied: Copied
    plain: Survey = field(default_factory=Survey)
    runs: list[Finished] = field(default_factory=list)
    chance: Partings = field(default_factory=Partings)
    """How two plain runs differ."""
    left_out: LeftOut = field(default_factory=LeftOut)
    remedy: Remedy | None = None
    harm: list[Unlike] = field(default_factory=list)
    """How a run under ckptd differs from one without, though nobody stopped it."""
    stops: list[Stopped] = field(default_factory=list)
    partings: Partings = field(default_factory=Partings)
    """How the run that was stopped differs in its training."""
    unlike: list[Unlike] = field(default_factory=list)
    """How it differs in what it printed and wrote."""
    status: tuple[int, int] = (0, 0)
    """Exit statuses: of the plain run, and of the one that was stopped."""
    said: list[str] = field(default_factory=list)
    """What ckptd said in the run that was stopped."""
    hashseed: str = ""
    """PYTHONHASHSEED of the first plain run and of the one that is stopped; '' where the user has set it."""
    kept: Path | None = None
    """Where the copies are, if they were to be kept."""

    @property
    def deterministic(self) -> bool:
        """Two plain runs train alike."""
        return not self.chance.in_training

    @property
    def refused(self) -> bool:
        """ckptd would not resume."""
        return self.status[1] == RefusedError.status != self.status[0]

    @property
    def complete(self) -> bool:
        """As many interruptions took place as were asked for."""
        return len(self.stops) == self.wanted and all(stop.resumed for stop in self.stops)

    @property
    def same(self) -> bool:
        """Nothing differs."""
        return not (self.partings.count or self.unlike or self.harm) and self.status[0] == self.status[1]


def prove(wishes: Wishes, progress: Progress) -> Proof:
    """Make all runs and compare them.

    Raises:
        CkptdError: the command fails by itself, or makes no training step that can be seen.
    """
    with _scratch_folder(wishes) as root:
        scratch = Scratch(wishes.folder, root, wishes.link)
        runner = Runner(wishes.argv, scratch, wishes.grace)
        seed = wishes.seed if wishes.seed is not None else secrets.randbelow(10**6)
        proof = Proof(list(wishes.argv), seed, 0, scratch.copied, kept=root if wishes.keep else None)
        one = _compare_plain_runs(proof, runner, progress)
        if proof.deterministic:
            _stop(proof, one, runner, wishes.stops, progress)
        return proof


@contextmanager
def _scratch_folder(wishes: Wishes) -> Iterator[Path]:
    try:
        root = Path(tempfile.mkdtemp(prefix="ckptd-prove-", dir=wishes.scratch)).resolve()
    except OSError as error:
        where = wishes.scratch or tempfile.gettempdir()
        raise CkptdError(
            f"can't make a folder in {where}: {(error.strerror or '').lower()}; name another with --scratch"
        ) from error
    try:
        yield root
    finally:
        if not wishes.keep:
            shutil.rmtree(root, ignore_errors=True)


def _compare_plain_runs(proof: Proof, runner: Runner, progress: Progress) -> Finished:
    """Once without ckptd, twice under it without a stop; the first of these two."""
    bare = runner.run_bare("bare", lambda _: progress("plain, without ckptd", 0, 0))
    proof.runs.append(bare)
    fixed = bool(os.environ.get("PYTHONHASHSEED"))
    pair: list[Finished] = []
    for number in (1, 2):
        hashseed = "" if fixed else str(1 + secrets.randbelow(2**32 - 1))
        total = proof.plain.events
        pair.append(
            runner.run(
                Conditions(f"plain-{number}", hashseed=hashseed),
                lambda done, number=number, total=total: progress(f"plain, {number} of 2", done, total),  # type: ignore[misc]
            )
        )
        proof.runs.append(pair[-1])
        if number == 1:
            proof.plain = survey(pair[0].journal)
            _require_training(proof, bare, pair[0])
            proof.hashseed = hashseed
    one, two = pair
    proof.chance = compare_plain(one.journal, two.journal)
    _, proof.left_out = outputs.compare_plain(one.output, two.output)
    if not proof.deterministic:

        def run(conditions: Conditions) -> Finished:
            switches = ", ".join(conditions.pins)
            done = runner.run(
                conditions, lambda steps: progress(f"trying {switches}", steps, conditions.until)
            )
            runner.scratch.forget(done.output.folder)
            return done

        proof.remedy = find_remedy(proof.chance, [proof.plain, survey(two.journal)], fixed, run)
    else:
        proof.harm = outputs.compare(bare.output, one.output, proof.left_out)
    runner.scratch.forget(two.output.folder)
    return one


def _require_training(proof: Proof, bare: Finished, plain: Finished) -> None:
    if proof.plain.failed:
        raise CkptdError(f"the digests failed ({proof.plain.failed}): please report this with the program")
    if proof.plain.events:
        return
    if bare.status:
        last = bare.stderr.read_text(errors="replace").strip().splitlines()[-1:]
        raise CkptdError(
            f"the command fails by itself, with status {bare.status}: {' '.join(last) or 'it says nothing'}"
        )
    why = "it never called backward() or an optimizer's step()"
    if not plain.journal.exists():
        why = plain.said[-1] if plain.said else "no Python program in it imported torch"
    raise CkptdError(f"the command made no training step that ckptd can see: {why}")


def _stop(proof: Proof, one: Finished, runner: Runner, number: int, progress: Progress) -> None:
    """Run it with interruptions, and compare."""
    steps = sorted({*proof.plain.steps})
    drawn = draw_steps(steps, number, proof.seed)
    proof.wanted = len(drawn)
    total = proof.plain.events
    name = f"stopped after {', '.join(map(str, drawn))}"
    done = runner.run(
        Conditions("stopped", stops=drawn, hashseed=proof.hashseed),
        lambda steps: progress(name, steps, total),
    )
    proof.runs.append(done)
    proof.said = done.said
    proof.stops = read_stops(done.journal)
    proof.status = (one.status, done.status)
    proof.partings = compare_stopped(one.journal, done.journal, proof.chance.names, ended=not proof.refused)
    if not proof.refused:
        proof.unlike = outputs.compare(one.output, done.output, proof.left_out)


def draw_steps(steps: Sequence[int], number: int, seed: int) -> list[int]:
    """Steps behind which to stop, in their order; the last step of all only if it is the only one."""
    may = list(steps[:-1]) or list(steps)
    return sorted(random.Random(seed).sample(may, min(number, len(may))))


def read_stops(journal: Path) -> list[Stopped]:
    """What became of each interruption."""
    stops: list[Stopped] = []
    for event in read_events(journal):
        if event.kind == "asked":
            stops.append(Stopped(event.step, None, resumed=False))
        elif event.kind == "dumped" and stops and stops[-1].saved is None:
            stops[-1] = Stopped(stops[-1].asked, event.step, resumed=False)
        elif event.kind == "resumed" and stops and stops[-1].saved == event.step:
            stops[-1] = Stopped(stops[-1].asked, event.step, resumed=True)
    return stops

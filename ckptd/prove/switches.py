"""The usual switches that make a program deterministic: which of them would have helped is tried out."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from ckptd.prove.differences import Partings, Survey, compare_plain
from ckptd.prove.runs import Conditions, Finished

SWITCHES = {
    "torch": "`torch.manual_seed(0)`",
    "random": "`random.seed(0)`",
    "numpy": "`numpy.random.seed(0)`, or `numpy.random.default_rng(0)`",
    "workers": "a fixed seed in the DataLoader's `worker_init_fn`",
    "hashseed": "`PYTHONHASHSEED=0` in the environment",
    "algorithms": "`torch.use_deterministic_algorithms(True)` and `CUBLAS_WORKSPACE_CONFIG=:4096:8`",
    "cudnn": "`torch.backends.cudnn.deterministic = True` and `torch.backends.cudnn.benchmark = False`",
    "threads": "`torch.set_num_threads(1)`",
}
"""What CKPTD_PINS calls them, and how people write them."""
UNSUSPECTED = ("hashseed", "workers", "numpy", "algorithms", "cudnn", "threads", "torch", "random")
"""Where no global random generator gives a hint, in the order in which they are tried."""
MARGIN = 10
"""Training events that are looked at behind the first one that differed."""
Run = Callable[[Conditions], Finished]


@dataclass(frozen=True)
class Remedy:
    """What was found out about a program that is not deterministic by itself."""

    suspects: list[str] = field(default_factory=list)
    """Random generators that the program uses and that stand elsewhere in each run."""
    needed: list[str] = field(default_factory=list)
    """Switches with which two runs were the same; empty if none helped."""
    events: int = 0
    """So many training events were looked at for that."""

    @property
    def texts(self) -> list[str]:
        """The switches as people write them."""
        return [SWITCHES[name] for name in self.needed]


def find_remedy(partings: Partings, plain: Sequence[Survey], fixed_hash: bool, run: Run) -> Remedy:
    """Run the program twice with each promising set of switches, cut short behind the first difference.

    ``plain`` are the surveys of the two runs that differed, ``fixed_hash`` says that the user has set PYTHONHASHSEED.
    """
    until = 2 * plain[0].steps.index(partings.first[0].step) + MARGIN if _is_step(partings, plain[0]) else 0
    suspects = _suspects(partings, plain)
    on_gpu = plain[0].about.get("device") != "CPU"
    rest = [
        name
        for name in UNSUSPECTED
        if name not in suspects and not (name == "hashseed" and fixed_hash) and (name != "cudnn" or on_gpu)
    ]
    trial = _Trial(run, until)
    if suspects and trial.helps(suspects):
        needed = next(([one] for one in suspects if len(suspects) > 1 and trial.helps([one])), suspects)
        return Remedy(suspects, needed, trial.events)
    for one in rest:
        if trial.helps([one]):
            return Remedy(suspects, [one], trial.events)
    every = [*suspects, *rest]
    return Remedy(suspects, every if trial.helps(every) else [], trial.events)


def _is_step(partings: Partings, plain: Survey) -> bool:
    return partings.first[0].where == "step" and partings.first[0].step in plain.steps


def _suspects(partings: Partings, plain: Sequence[Survey]) -> list[str]:
    used = set.union(*(each.used for each in plain))
    names = {"rng:python": "random", "rng:numpy": "numpy", "rng:torch": "torch"}
    found = {switch for name, switch in names.items() if name in used and name in partings.names}
    if any(name.startswith("rng:cuda") for name in used & partings.names):
        found.add("torch")
    return [name for name in SWITCHES if name in found]


class _Trial:
    """Pairs of runs with some switches set."""

    def __init__(self, run: Run, until: int) -> None:
        self.events = until
        self._run = run
        self._numbers = count(1)

    def helps(self, switches: Sequence[str]) -> bool:
        """Whether two runs are the same with these."""
        one, two = (self._once(switches) for _ in range(2))
        return one.journal.exists() and not compare_plain(one.journal, two.journal).in_training

    def _once(self, switches: Sequence[str]) -> Finished:
        hashseed = "0" if "hashseed" in switches else str(1 + secrets.randbelow(2**32 - 1))
        name = f"trial-{next(self._numbers)}"
        return self._run(Conditions(name, hashseed=hashseed, pins=tuple(switches), until=self.events))

"""What is rehearsed: which notice, how long before the end it comes, and what follows it."""

from __future__ import annotations

from dataclasses import dataclass

from ckptd.doctor import notice as known
from ckptd.doctor.place import Place
from ckptd.errors import UsageError

SIGTERM = "sigterm"
_SHOWN = {
    "aws": known.AWS_SPOT,
    "gcp": known.GCP_SPOT,
    "gke": known.GKE_SPOT,
    "azure": known.AZURE_SPOT,
    "kubernetes": known.POD,
    "slurm": known.SLURM_LIMIT,
    "systemd": known.STOP,
    "logind": known.LOGIND,
    SIGTERM: known.GRACE,
}
SOURCES = tuple(_SHOWN)


@dataclass(frozen=True)
class Rehearsal:
    """One notice, as it is played."""

    source: str
    """One of SOURCES."""
    title: str
    """'AWS spot'."""
    told: float
    """Seconds that the job is told it has."""
    deadline: float
    """Seconds that are measured against: something else may end the job before what it is told."""
    leave: bool
    """Played to the end: the job leaves, and isn't started again."""
    machine: bool
    """The machine goes too, and perhaps its disk."""
    mend: str
    """The line that gives more time, with {need} for the seconds wanted; '' where nothing does."""

    @property
    def by_signal(self) -> bool:
        """It is a signal, not a notice."""
        return self.source == SIGTERM


def rehearse(source: str, lead: float | None, limit: float | None, grace: float, leave: bool) -> Rehearsal:
    """What to play. Seconds: ``lead`` that the notice says, ``limit`` to be gone by, ``grace`` of the job.

    Raises UsageError.
    """
    usual = {notice.name: notice for notice in known.known_notices(Place(), grace)}[_SHOWN[source]]
    if source == SIGTERM and lead is not None:
        raise UsageError(
            "a SIGTERM says no time, and the job's own --grace holds: --grace measures against another"
        )
    told = usual.seconds if lead is None else lead
    own = limit is not None and limit < told
    return Rehearsal(
        source=source, title=usual.name if source != SIGTERM else "SIGTERM", told=told,
        deadline=min(told, limit) if limit is not None else told, leave=leave, machine=usual.machine,
        mend="" if own else usual.mend,
    )  # fmt: skip

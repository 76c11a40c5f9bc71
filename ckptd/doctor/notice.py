"""The notices there are, and the time that each leaves.

Sources, in the order of the table: AWS EC2 User Guide, 'Spot Instance interruption notices' (two minutes, best
effort; none before a hibernation); Google Compute API, Scheduling.skipGuestOsShutdown (30 s between the two
signals), Google Kubernetes Engine, 'preemptible VMs' (15 s for pods that are not the system's, whatever the pod
asks for); Azure, 'Scheduled Events' (Preempt: 30 s at least, best effort); Kubernetes, 'Pod Lifecycle'
(terminationGracePeriodSeconds, 30 s); slurm.conf(5) and sbatch(1) (KillWait 30 s; GraceTime 0); systemd.service(5)
(TimeoutStopSec 90 s); logind.conf(5) (InhibitDelayMaxSec 5 s); torch.distributed.run (30 s for all ranks of a
machine together).
"""

from __future__ import annotations

from dataclasses import dataclass

from ckptd.doctor.place import AWS, AZURE, GCP, Place

GRACE = "ckptd run --grace"
AWS_SPOT, GCP_SPOT, AZURE_SPOT = "AWS spot", "GCP spot", "Azure spot"
GKE_SPOT, POD = "GKE spot pod", "Kubernetes pod"
SLURM_LIMIT, SLURM_PREEMPT = "Slurm time limit", "Slurm preemption"
STOP, LOGIND, TORCHRUN = "systemd stop", "logind shutdown", "torchrun stop"


@dataclass(frozen=True)
class Notice:
    """One way in which a job is told to go."""

    name: str
    seconds: float
    """From the notice to the moment when the process is gone at the latest; may be infinite."""
    here: bool = False
    """It may come to this job as it is started here; the others are there to compare with."""
    machine: bool = False
    """The machine goes too, and perhaps its disk."""
    mend: str = ""
    """The line that gives more time, with {need} for the seconds wanted; '' where nothing does."""
    fact: str = ""
    """Where the number is from, if it was read here: 'TimeoutStopSec of train.service'."""
    delays: bool = False
    """It does not end the process: it is how long something else waits before it goes on to do so."""


def known_notices(place: Place, grace: float) -> list[Notice]:
    """The table, as the manuals have it. ``grace``: seconds, as ``ckptd run`` will be told."""
    cloud, pods = place.cloud, place.kubernetes
    return [
        Notice(GRACE, grace, here=True, mend="ckptd run --grace {need}s -- CMD"),
        Notice(AWS_SPOT, 120, here=cloud == AWS, machine=True),
        Notice(GCP_SPOT, 30, here=cloud == GCP and not pods, machine=True),
        Notice(GKE_SPOT, 15, here=cloud == GCP and pods, machine=True),
        Notice(AZURE_SPOT, 30, here=cloud == AZURE, machine=True),
        Notice(POD, 30, here=pods, mend="terminationGracePeriodSeconds: {need}   # in the pod's spec"),
        Notice(SLURM_LIMIT, 30, mend="#SBATCH --signal=B:USR2@{need}"),
        Notice(SLURM_PREEMPT, 30, mend="GraceTime={need}   # of the partition, in slurm.conf"),
        Notice(STOP, 90, mend="TimeoutStopSec={need}"),
        Notice(LOGIND, 5, mend="InhibitDelayMaxSec={need}   # in /etc/systemd/logind.conf", delays=True),
        Notice(TORCHRUN, 30, mend="TORCH_ELASTIC_SHUTDOWN_TIMEOUT={need}"),
    ]


def replaced(known: list[Notice], seen: list[Notice]) -> list[Notice]:
    """The table, with what was seen here in the place of what the manuals say."""
    by_name = {notice.name: notice for notice in seen}
    return [by_name.get(notice.name, notice) for notice in known]

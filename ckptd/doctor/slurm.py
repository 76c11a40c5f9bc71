"""What Slurm allows the job that this runs in, as its environment and ``scontrol`` tell it.

Sources: slurm.conf(5): KillWait, PreemptMode, GraceTime (default 0), JobRequeue, PreemptParameters; sbatch(1): --signal
(may come up to 60 s early), --requeue. A preempted job's steps are told at once and are killed after GraceTime, then
KillWait; its batch script is told only when GraceTime is over (seen with 22.05), unless slurm.conf has it sent the
job's --signal (PreemptParameters=send_user_signal; in 22.05 SlurmctldParameters=preempt_send_user_signal). At the time
limit a job is told KillWait before the end, unless --signal told it earlier.
"""

from __future__ import annotations

import re

from ckptd.doctor.findings import NOTES, WARNS, Finding
from ckptd.doctor.machine import Machine
from ckptd.doctor.notice import SLURM_LIMIT, SLURM_PREEMPT, Notice

_KILL_WAIT = 30.0
_WORD = re.compile(r"(\w+)=(\S*)")
_LINE = re.compile(r"^(\w+)\s*= (.*)$", re.MULTILINE)
LIMIT_MEND = "#SBATCH --signal=B:USR2@{need}, and exec ckptd run --notice-signals TERM,USR2 -- CMD"


def slurm(machine: Machine) -> tuple[list[Notice], list[Finding]]:
    """The times and what else stands in the way; nothing outside of a job."""
    ident = machine.env.get("SLURM_JOB_ID", "")
    if not ident:
        return [], []
    job = dict(_WORD.findall(machine.ask("scontrol", "show", "job", ident, "--oneliner")))
    config = dict(_LINE.findall(machine.ask("scontrol", "show", "config")))
    partition = job.get("Partition") or machine.env.get("SLURM_JOB_PARTITION", "")
    queue = (
        dict(_WORD.findall(machine.ask("scontrol", "show", "partition", partition, "--oneliner")))
        if partition
        else {}
    )
    wait = _number(config.get("KillWait", ""), _KILL_WAIT)
    grace = _number(queue.get("GraceTime", ""), 0.0)
    said = f"scontrol: KillWait={wait:g}" if config else "default; scontrol doesn't answer"
    notices = [Notice(SLURM_LIMIT, wait, here=True, mend=LIMIT_MEND, fact=said)]
    mode = (queue.get("PreemptMode") or config.get("PreemptMode", "")).upper()
    if mode and mode not in ("OFF", "GANG"):
        where = partition or "the partition"
        parameters = config.get("PreemptParameters", "") + config.get("SlurmctldParameters", "")
        if machine.env.get("SLURM_STEP_ID") or "send_user_signal" in parameters:
            fact = f"GraceTime={grace:g} of {where}, and KillWait={wait:g}"
            mend = f"GraceTime={{need}}   # of partition {partition}, in slurm.conf"
            notices.append(Notice(SLURM_PREEMPT, grace + wait, here=True, mend=mend, fact=fact))
        else:
            fact = f"KillWait={wait:g}; a batch script hears nothing during GraceTime={grace:g} of {where}"
            mend = "srun ckptd run -- CMD   # a step is told when GraceTime begins"
            notices.append(Notice(SLURM_PREEMPT, wait, here=True, mend=mend, fact=fact))
    return notices, _findings(job, config, mode)


def _findings(job: dict[str, str], config: dict[str, str], mode: str) -> list[Finding]:
    found = []
    if not config:
        found.append(
            Finding("Slurm", NOTES, "scontrol doesn't answer: Slurm's defaults are taken for granted")
        )
    if job.get("Requeue") == "0":
        text = "this job is not queued again after a preemption (Requeue=0)"
        found.append(Finding("Slurm requeue", WARNS, text, "#SBATCH --requeue --open-mode=append"))
    if "SUSPEND" in mode:
        text = (
            f"PreemptMode={mode}: a preempted job is stopped, not ended; its memory, a GPU's too, stays taken"
        )
        found.append(Finding("PreemptMode", NOTES, text))
    return found


def _number(text: str, default: float) -> float:
    """Seconds of '30 sec', '00:02:00' or '120'; ``default`` for what is no number."""
    word = (text.split() or [""])[0]
    parts = word.split(":")
    if not all(part.isdigit() for part in parts):
        return default
    total = 0
    for part in parts:
        total = total * 60 + int(part)
    return float(total)

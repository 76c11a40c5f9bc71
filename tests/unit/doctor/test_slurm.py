"""What is read of Slurm. The program here prints what scontrol does (slurm 23.11)."""

import pytest

from ckptd.doctor.findings import NOTES, WARNS
from ckptd.doctor.notice import SLURM_LIMIT, SLURM_PREEMPT
from ckptd.doctor.slurm import slurm

SCONTROL = """\
case "$2" in
job) echo "JobId=7 JobName=train Requeue={requeue} Restarts=0 TimeLimit=01:00:00 Partition=spot BatchFlag=1" ;;
config) cat <<END
Configuration data as of 2026-01-01T00:00:00
JobRequeue              = 1
KillWait                = {wait} sec
PreemptMode             = {mode}
PreemptParameters       = {parameters}
END
;;
partition) echo "PartitionName=spot GraceTime={grace} Hidden=NO PreemptMode={mode} State=UP" ;;
esac
"""


def scontrol(requeue=1, wait=30, mode="REQUEUE", grace=0, parameters="(null)"):
    return {
        "scontrol": SCONTROL.format(requeue=requeue, wait=wait, mode=mode, grace=grace, parameters=parameters)
    }


def test_outside_of_a_job_nothing_is_asked(machine, tmp_path):
    asked = tmp_path / "asked"
    assert slurm(machine({}, {"scontrol": f"touch {asked}"})) == ([], [])
    assert not asked.exists()


def test_a_preemption_gives_grace_time_and_kill_wait(machine):
    notices, findings = slurm(machine({}, scontrol(wait=20, grace=60), SLURM_JOB_ID="7", SLURM_STEP_ID="0"))
    assert {each.name: each.seconds for each in notices} == {SLURM_LIMIT: 20, SLURM_PREEMPT: 80}
    assert all(each.here for each in notices)
    assert findings == []


@pytest.mark.parametrize(
    ("parameters", "seconds"), [("(null)", 20), ("reorder_count=1,send_user_signal", 80)]
)
def test_a_batch_script_is_not_told_when_grace_time_begins(machine, parameters, seconds):
    notices, _ = slurm(machine({}, scontrol(wait=20, grace=60, parameters=parameters), SLURM_JOB_ID="7"))
    assert notices[1].seconds == seconds
    assert ("srun" in notices[1].mend) == (seconds == 20)


def test_where_nothing_preempts_the_limit_is_all(machine):
    notices, _ = slurm(machine({}, scontrol(mode="OFF"), SLURM_JOB_ID="7"))
    assert [each.name for each in notices] == [SLURM_LIMIT]


def test_a_job_that_is_not_queued_again(machine):
    _, (found,) = slurm(machine({}, scontrol(requeue=0), SLURM_JOB_ID="7"))
    assert found.severity == WARNS
    assert found.mend.startswith("#SBATCH --requeue")


def test_the_line_for_the_time_limit(machine):
    notices, _ = slurm(machine({}, scontrol(), SLURM_JOB_ID="7"))
    line = notices[0].mend.format(need=120)
    assert line.startswith("#SBATCH --signal=B:USR2@120")
    assert "--notice-signals TERM,USR2" in line


@pytest.mark.parametrize("programs", [{}, {"scontrol": "echo 'slurm_load_jobs error' >&2; exit 1"}])
def test_without_an_answer_the_defaults_count_and_that_is_said(machine, programs):
    notices, (found,) = slurm(machine({}, programs, SLURM_JOB_ID="7"))
    assert [(each.name, each.seconds) for each in notices] == [(SLURM_LIMIT, 30)]
    assert found.severity == NOTES

"""``ckptd@.service`` under a real systemd: stops, restarts, the watchdog, limits, and too little time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import fileops

from systemd.conftest import counted, program

UNITS = ("ckptd.service", "ckptd@train.service")


def test_systemd_has_nothing_to_say_against_the_units(box):
    for unit in UNITS:
        done = box.run("systemd-analyze", "verify", unit)
        assert (done.stdout, done.stderr) == ("", "")


def test_stopped_is_saved_and_stays_stopped_until_it_is_started(fake, box):
    job = fake(250, pace=0.01)
    job.systemctl("start")
    assert job.property["StatusText"]
    job.has_printed(20)
    job.until(lambda: "running, step" in job.property["StatusText"], "its state")
    job.systemctl("stop")
    assert (job.ends(), box.state(job.unit)) == (["75 success"], "inactive")
    printed = len(job.out())
    job.systemctl("start")
    job.has_printed(printed + 20)
    job.systemctl("restart")
    job.is_over()
    assert job.out() == counted(250)
    assert job.ends() == ["75 success", "75 success", "0 success"]


def test_a_signal_from_elsewhere_saves_and_it_is_started_again(fake, box):
    job = fake(150, pace=0.01)
    job.systemctl("start")
    job.has_printed(20)
    box.run("kill", "-TERM", str(job.box.main_pid(job.unit)))
    job.until(lambda: job.property["NRestarts"] == "1", "a restart")
    job.is_over()
    assert job.out() == counted(150)
    assert job.ends() == ["75 success", "0 success"]


def test_a_ckptd_that_hangs_is_ended_by_the_watchdog_and_the_job_goes_on(fake, box):
    job = fake(10**6, {"CKPTD_EVERY": "1s"})
    job.dropin("[Service]\nWatchdogSec=1s\nLimitCORE=0\n")
    job.systemctl("start")
    job.until(lambda: "saved step" in job.property["StatusText"], "a checkpoint")
    hung = box.main_pid(job.unit)
    box.run("kill", "-STOP", str(hung))
    job.until(lambda: job.property["NRestarts"] == "1" and box.main_pid(job.unit), "a restart")
    job.until(lambda: job.said("resumed at step") or job.said("goes on from step"), "a resume")
    assert job.ends() == ["ABRT watchdog"]
    printed = len(job.out())
    job.has_printed(printed + 50)
    assert job.out().count("1") == 1  # it did not begin anew
    assert not [line for line in box.processes().values() if str(hung) in line]


def test_what_fails_again_and_again_is_given_up(job):
    one = job(f"{sys.executable} -c 'raise SystemExit(3)'")
    one.dropin("[Unit]\nStartLimitBurst=3\n")
    one.box.run("systemctl", "start", "--no-block", one.unit)
    one.until(
        lambda: one.property["Result"] == "start-limit-hit" or one.property["NRestarts"] == "3", "the limit"
    )
    one.until(lambda: one.box.state(one.unit) == "failed", "the end")
    assert one.property["ExecMainStatus"] == "3"


@pytest.mark.parametrize(("command", "status"), [("no-such-program", "127"), ("/etc", "126")])
def test_what_can_never_start_is_not_tried_again(job, command, status):
    one = job(command)
    one.box.run("systemctl", "start", one.unit, check=False)
    one.is_over()
    assert one.ends() == [f"{status} exit-code"]


def test_a_stop_has_the_time_that_a_slow_disk_needs(fake, box):
    if fileops.compiler() is None:
        pytest.skip("needs a C compiler")
    job = fake(250, {"CKPTD_EVERY": "never"}, pace=0.01)
    fault = fileops.Fault(box.folder / "fault")
    slow = fileops.preload(fileops.build(box.folder), Path(f"/var/lib/ckptd-{job.name}"), FAULT=fault.file)
    environment = "".join(f"Environment={name}={value}\n" for name, value in slow.items())
    job.dropin("[Service]\nTimeoutStopSec=1s\nWatchdogSec=1s\nLimitCORE=0\n" + environment)
    job.systemctl("start")
    job.has_printed(20)
    began = time.monotonic()
    fault.set(milliseconds=80)
    try:
        job.systemctl("stop")
    finally:
        fault.clear()
    assert job.ends() == ["75 success"]
    assert time.monotonic() - began > 2  # else this test tests nothing
    job.systemctl("start")
    job.is_over()
    assert job.out() == counted(250)


@pytest.mark.nightly
def test_stops_with_workers_alive_are_bit_identical(job, box):
    script = [sys.executable, str(program("workers.py"))]
    one = job(" ".join(script), PYTHONUNBUFFERED="1")
    for lines, mode in ((6, "control-group"), (16, "mixed")):
        one.dropin(f"[Service]\nKillMode={mode}\n")
        one.systemctl("start")
        one.has_printed(lines)
        assert len(box.processes_of(one.unit)) >= 4  # ckptd, the program and its two workers
        one.systemctl("stop")
    one.systemctl("start")
    one.is_over()
    plain = subprocess.run(script, capture_output=True, text=True, check=True, cwd=box.folder)
    assert one.out() == plain.stdout.splitlines()
    assert one.ends() == ["75 success", "75 success", "0 success"]

"""``ckptd.service`` under a real systemd: jobs in scopes of their own outlive all that may happen to the daemon."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from faults import fileops

from systemd.conftest import CKPTD, FAKE, NUMBERS, STUB, counted

STORE = "/var/lib/ckptd"
UNIT = "ckptd.service"


class Detached:
    """A job that was handed to the daemon: counts to ``steps``."""

    def __init__(self, box, steps, env=None, **keys):
        self.box, self.name, self.env = box, f"detached_{next(NUMBERS)}", env or {}
        words = [f"{key}={value}" for key, value in {"pace": 0.01, **keys}.items()]
        self.verb(
            "run", "--detach", "--name", self.name, "--every", "500ms", "--notices", "none", "--",
            sys.executable, FAKE, steps, *words,
        )  # fmt: skip
        self.id = self.row()["id"]

    def verb(self, *words):
        env = {"CKPTD_STORE": STORE, "CKPTD_AGENT_PATH": str(STUB), **self.env}
        return self.box.run("env", "-C", self.box.folder, CKPTD, *map(str, words), env=env).stdout

    def row(self):
        (row,) = [row for row in json.loads(self.verb("ps", "--json")) if row["name"] == self.name]
        return row

    def out(self):
        """What it has counted; it says more on stderr."""
        path = self.box.folder / "lib" / "ckptd" / "jobs" / self.id / "output.log"
        return [line for line in path.read_text().split("\n")[:-1] if line.isdigit()]

    def has_printed(self, lines):
        self.box.until(lambda: len(self.out()) >= lines, f"line {lines} of {self.name}")

    def more(self, lines=20):
        """Wait until so many lines more are there."""
        self.has_printed(len(self.out()) + lines)

    def ended(self):
        self.box.until(lambda: self.row()["state"] == "finished", f"the end of {self.name}")

    def scopes(self):
        said = self.box.run(
            "systemctl", "list-units", "--plain", "--no-legend", f"ckptd-job-{self.id}*"
        ).stdout
        return [line.split()[0] for line in said.splitlines()]


@pytest.fixture
def daemon(box):
    """The daemon as an administrator has it, and a way to give it jobs."""
    assert "is started, and will be at every boot" in box.run(CKPTD, "daemon", "install").stdout
    box.write(
        f"/etc/systemd/system/{UNIT}.d/test.conf",
        "[Service]\nRestartSec=100ms\nEnvironment=CKPTD_NOTICES=none\n",
    )
    box.run("systemctl", "daemon-reload")
    yield lambda steps, **keys: Detached(box, steps, **keys)
    if not box.on:
        box.boot()
    box.run(CKPTD, "daemon", "uninstall")
    box.run(CKPTD, "daemon", "install", "--no-start")


def processes_of(job):
    row = job.row()
    return row["pid"], row["supervisor"]


def test_a_daemon_that_is_killed_reloaded_or_hangs_leaves_its_jobs_alone(daemon, box):
    job = daemon(10**6)
    job.more()
    before = processes_of(job)
    (scope,) = job.scopes()
    assert box.properties(scope)["Before"].split().count(UNIT) == 1
    first = box.main_pid(UNIT)

    box.run("kill", "-KILL", str(first))
    box.until(lambda: box.main_pid(UNIT) not in (0, first), "another daemon")
    box.until(lambda: "1 job runs" in box.properties(UNIT).get("StatusText", ""), "the job found again")
    assert (processes_of(job), job.scopes()) == (before, [scope])

    second = box.main_pid(UNIT)
    box.run("systemctl", "reload", UNIT)
    box.until(lambda: box.state(UNIT) == "active", "the end of the reload")
    assert box.main_pid(UNIT) == second
    job.more()
    assert (processes_of(job), job.scopes()) == (before, [scope])

    box.write(f"/etc/systemd/system/{UNIT}.d/watchdog.conf", "[Service]\nWatchdogSec=1s\nLimitCORE=0\n")
    box.run("systemctl", "daemon-reload")
    box.run("kill", "-KILL", str(second))
    box.until(lambda: box.main_pid(UNIT) not in (0, second) and box.state(UNIT) == "active", "a third")
    third = box.main_pid(UNIT)
    box.run("kill", "-STOP", str(third))
    box.until(lambda: box.main_pid(UNIT) not in (0, third) and box.state(UNIT) == "active", "a fourth")
    job.more()
    assert (processes_of(job), job.scopes()) == (before, [scope])
    printed = job.out()
    assert printed == counted(len(printed))  # nothing of all that reached it
    box.inside(f"/etc/systemd/system/{UNIT}.d/watchdog.conf").unlink()
    job.verb("stop", job.id)
    assert job.row()["state"] == "stopped"


def test_a_stop_and_a_reboot_save_all_jobs_and_the_next_start_takes_them_up(daemon, box):
    job, other = daemon(350), daemon(350)
    job.more()
    other.more()
    box.run("systemctl", "stop", UNIT)
    assert (job.row()["state"], other.row()["state"]) == ("stopped", "stopped")
    assert job.scopes() == other.scopes() == []
    box.run("systemctl", "start", UNIT)
    job.more()
    box.power_off()
    for each in (job, other):
        printed = each.out()
        assert printed == counted(len(printed))
        assert len(printed) < 350
    box.boot()
    job.ended()
    other.ended()
    assert job.out() == other.out() == counted(350)


def test_a_stop_has_the_time_that_the_dumps_of_all_jobs_need(daemon, box):
    if fileops.compiler() is None:
        pytest.skip("needs a C compiler")
    fault = fileops.Fault(box.folder / "slow")
    slow = fileops.preload(fileops.build(box.folder), Path(STORE), FAULT=fault.file)
    job = daemon(300, env=slow)
    job.more()
    box.write(f"/etc/systemd/system/{UNIT}.d/short.conf", "[Service]\nTimeoutStopSec=1s\n")
    box.run("systemctl", "daemon-reload")
    fault.set(milliseconds=30)
    began = time.monotonic()
    box.run("systemctl", "stop", UNIT)
    took = time.monotonic() - began
    fault.clear()
    box.inside(f"/etc/systemd/system/{UNIT}.d/short.conf").unlink()
    assert job.row()["state"] == "stopped"
    assert took > 2  # else this test tests nothing
    box.run("systemctl", "start", UNIT)
    job.ended()
    assert job.out() == counted(300)


def test_after_a_power_cut_a_job_goes_on_from_its_last_checkpoint(daemon, box):
    job = daemon(400)
    box.until(lambda: job.row()["checkpoint"], "a checkpoint")
    job.more(30)
    box.cut()
    lost = job.out()
    box.boot()
    job.ended()
    again = job.out()[len(lost) :]
    assert 1 < int(again[0]) <= int(lost[-1]) + 1
    assert again == counted(400)[int(again[0]) - 1 :]

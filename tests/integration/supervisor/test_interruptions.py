"""Notices, stops and deaths, with a program that speaks the protocol itself."""

from __future__ import annotations

import json
import os
import signal
import time

import psutil
import pytest
from faults import fileops

from ckptd.errors import LockedError

STOPPED = 75


def numbers(run):
    return [int(line) for line in run.out.split()]


def checkpoints(run):
    return sorted(path.name for path in run.store.glob("jobs/*/checkpoints/0*"))


def record(run):
    return json.loads(next(run.store.glob("jobs/*/job.json")).read_text())


def test_runs_to_its_end(fake):
    run = fake(5)
    assert run.wait() == 0
    assert numbers(run) == [1, 2, 3, 4, 5]
    assert run.said == []
    assert record(run)["state"] == "finished"
    assert run.runtime() == []


def test_sigterm_to_the_program(fake):
    run = fake(60, hold=10)
    run.line("5")
    run.child().terminate()
    assert run.wait() == 0
    assert numbers(run) == list(range(1, 61))
    assert len(checkpoints(run)) == 1
    assert [line for line in run.said if "SIGTERM: saved step" in line]
    assert [line for line in run.said if "resumed at step" in line]
    assert record(run)["attempt"] == 2
    assert run.runtime() == []


def test_two_signals_in_a_row(fake):
    run = fake(60, hold=10, dump="slow")
    run.line("5")
    child = run.child()
    child.terminate()
    time.sleep(0.02)
    child.terminate()
    assert run.wait() == 0
    assert numbers(run) == list(range(1, 61))
    assert record(run)["attempt"] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_and_go_on(fake, number):
    run = fake(40, hold=10)
    run.line("5")
    run.process.send_signal(number)
    assert run.wait() == STOPPED
    assert f"{signal.Signals(number).name}: saved step" in run.said[0]
    assert "the same command goes on from step" in run.said[1]
    assert record(run)["extra"]["state"] == "stopped"
    assert run.runtime() == []
    again = fake(40)
    assert again.wait() == 0
    assert numbers(run) + numbers(again) == list(range(1, 41))
    assert "--fresh starts over" in again.said[0]


def test_status_of_its_own_handler_is_no_finish(fake):
    run = fake(40, hold=10, handler=0)
    run.line("5")
    run.child().terminate()
    assert run.wait() == 0
    assert numbers(run) == list(range(1, 41))


def test_second_interrupt_is_passed_on(fake):
    run = fake(1000, dump="never")
    run.line("5")
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 128 + signal.SIGINT
    assert "KeyboardInterrupt" in run.err
    assert checkpoints(run) == []


def test_killed_at_the_deadline_and_relaunched(fake):
    run = fake(1000, dump="never", flags=["--grace", "0.3s", "--max-restarts", "1"])
    run.line("5")
    first = run.child()
    first.terminate()
    run.until(lambda: any("did not leave in time" in line for line in run.said), "the relaunch")
    assert not first.is_running()
    run.until(lambda: numbers(run).count(5) == 2, "the second start")
    second = run.child()
    second.terminate()
    assert run.wait() == 128 + signal.SIGKILL
    assert "not restarted" in run.said[-1]


def test_stop_without_any_checkpoint_at_the_deadline(fake):
    run = fake(1000, dump="never", flags=["--grace", "0.2s"])
    run.line("3")
    run.process.terminate()
    assert run.wait() == 128 + signal.SIGKILL
    assert "before anything could be saved" in run.said[-1]


def test_stays_after_the_commit_and_is_killed(fake):
    run = fake(40, hold=10, leave="no", flags=["--grace", "0.5s"])
    run.line("5")
    run.process.terminate()
    assert run.wait() == STOPPED
    assert len(checkpoints(run)) == 1


def test_dump_refused_by_the_agent_training_goes_on(fake):
    run = fake(30, hold=10, dump="refuse")
    run.line("5")
    run.child().terminate()
    assert run.wait() == 0
    assert numbers(run) == list(range(1, 31))
    assert run.said == ["ckptd: could not save: a step inside a generator can't be saved; training goes on"]


def test_commit_that_fails_training_goes_on(fake):
    run = fake(30, hold=10)
    run.line("5")
    folder = next(run.store.glob("jobs/*/checkpoints"))
    folder.rmdir()
    folder.write_text("in the way")
    run.child().terminate()
    assert run.wait() == 0
    assert numbers(run) == list(range(1, 31))
    # The job's record could not be written either: that is said whenever it is tried.
    (sentence,) = [line for line in run.said if "could not save: " in line]
    assert "; training goes on" in sentence
    assert "unsaved " in run.err
    assert run.runtime() == []


def test_failed_stop_then_a_second_one_ends_it(fake):
    run = fake(1000, dump="refuse")
    run.line("5")
    run.process.terminate()
    run.until(lambda: run.said, "the sentence")
    assert "SIGTERM again ends it unsaved" in run.said[0]
    reached = numbers(run)[-1]
    run.until(lambda: numbers(run)[-1] > reached + 2, "that training goes on")
    run.process.terminate()
    assert run.wait() == 128 + signal.SIGKILL


def test_a_segment_elsewhere_is_not_touched(fake):
    run = fake(30, hold=10, dump="wrong")
    run.line("5")
    run.child().terminate()
    assert run.wait() == 0
    assert "there is no segment /etc/hostname" in run.err
    assert os.path.exists("/etc/hostname")
    assert run.runtime() == []


@pytest.mark.parametrize("told", ["dumped", "silent"])
def test_killed_when_its_copy_is_complete_whether_it_could_say_so_or_not(fake, told):
    run = fake(30, hold=10, die=told)
    run.line("5")
    run.child().terminate()
    run.until(lambda: checkpoints(run), "the commit")
    saved = int(checkpoints(run)[0][:12])
    run.until(lambda: f"{saved + 1}" in run.out.splitlines(), "the resume")
    run.process.kill()
    assert saved >= 5


def test_a_large_copy_is_written_as_it_comes(fake):
    run = fake(40, hold=10, mib=70)
    run.line("5")
    run.child().terminate()
    assert run.wait() == 0
    assert numbers(run) == list(range(1, 41))
    assert len(checkpoints(run)) == 1
    assert not list(run.store.glob("jobs/*/work/*"))


def test_killed_half_way_through_its_copy(fake):
    run = fake(60, mib=70, die="copying", flags=["--every", "0.2s"])
    run.until(lambda: checkpoints(run), "a first checkpoint")
    run.child().terminate()
    assert run.wait() == 0
    seen = numbers(run)
    (back,) = (seen[at + 1] for at in range(len(seen) - 1) if seen[at + 1] <= seen[at])
    assert back > 1  # from the checkpoint before: of the half one nothing was taken, and nothing is left
    assert seen[-1] == 60
    assert not list(run.store.glob("jobs/*/work/*"))


def test_a_ckptd_that_is_killed_as_its_program_starts_is_followed_by_one_that_finds_it(fake, tmp_path):
    """On a disk so slow that what is noted of the start would come half a second behind it."""
    if fileops.compiler() is None:
        pytest.skip("needs a C compiler")
    fault = fileops.Fault(tmp_path / "fault")
    slow = fileops.preload(fileops.build(tmp_path), tmp_path / "store", FAULT=fault.file)
    fault.set(milliseconds=100)
    run = fake(300, popen={"env": slow})
    child = run.child()
    run.process.kill()
    run.process.wait()
    fault.clear()
    again = fake(300)
    assert again.wait() == LockedError.status
    assert f"still runs as process {child.pid}, though its ckptd is gone" in again.err
    child.kill()


def test_crash_goes_on_from_the_periodic_checkpoint(fake):
    run = fake(80, crash="60:-9", flags=["--every", "0.2s"])
    assert run.wait() == 0
    seen = numbers(run)
    back = seen[seen.index(60) + 1]
    assert 1 < back <= 60
    assert seen == [*range(1, 61), *range(back, 81)]
    sentence = next(line for line in run.said if "relaunching" in line)
    assert f"was killed by SIGKILL: relaunching from step {back - 1} in" in sentence
    assert "(restart 1 of 3)" in sentence


def test_every_steps(fake):
    run = fake(40, due="yes", flags=["--every", "10steps", "--keep-last", "2"])
    assert run.wait() == 0
    assert len(checkpoints(run)) == 2
    assert run.err.count("saved ") >= 3


def test_restarts_without_progress_end(fake):
    run = fake(80, always="30:7", flags=["--every", "0.1s", "--max-restarts", "2"])
    assert run.wait() == 7
    assert len([line for line in run.said if "relaunching" in line]) >= 2
    assert "exited with status 7 after 2 restarts without progress: not restarted" in run.said[-1]
    assert record(run)["state"] == "failed"


def test_ordinary_failure_before_the_first_checkpoint(fake):
    run = fake(30, always="5:3")
    assert run.wait() == 3
    assert numbers(run) == [1, 2, 3, 4, 5]
    assert run.said == []


def test_sigterm_before_hello_starts_again(fake):
    run = fake(5, early=int(signal.SIGTERM))
    assert run.wait() == 0
    assert numbers(run) == [1, 2, 3, 4, 5]
    assert "was killed by SIGTERM: relaunching from the start" in run.said[0]


def test_notice_during_the_replay_is_an_interruption(fake):
    run = fake(40, hold=10, resume="notice")
    run.line("5")
    run.child().terminate()
    assert run.wait() == 0
    assert record(run)["attempt"] == 3
    assert numbers(run) == list(range(1, 41))


def test_refused_resume(fake):
    run = fake(40, hold=10, resume="refuse")
    run.line("5")
    run.child().terminate()
    assert run.wait() == 14
    assert run.said[-1] == "ckptd: line 7 of train.py is not reached: --fresh starts over"
    assert len(checkpoints(run)) == 1
    assert record(run)["state"] == "unfinished"


def test_stop_before_the_first_hello_is_passed_on(fake):
    run = fake(1000, hello="no")
    child = run.child()
    run.until(lambda: child.cmdline()[-1] == "hello=no", "the program")
    run.process.terminate()
    assert run.wait() == 128 + signal.SIGTERM


def test_a_stop_that_overtakes_the_first_hello_saves(fake):
    """What the agent has said when the signal comes counts, though ckptd has had no time to hear it."""
    run = fake(60, hold=10)
    run.child()
    run.process.send_signal(signal.SIGSTOP)
    run.line("5")
    run.process.send_signal(signal.SIGINT)
    run.process.send_signal(signal.SIGCONT)
    assert run.wait() == STOPPED
    assert "SIGINT: saved step" in run.err
    assert "KeyboardInterrupt" not in run.err


def test_nonsense_is_ignored(fake):
    run = fake(30, hold=10, nonsense=200)
    run.line("5")
    run.child().terminate()
    assert run.wait() == 0
    assert numbers(run) == list(range(1, 31))


def test_helpers_of_an_interrupted_attempt_are_ended(fake):
    run = fake(30, hold=10, child="yes")
    run.line("5")
    helper = int(run.err.split("helper ")[1].split()[0])
    run.child().terminate()
    run.until(lambda: any("resumed" in line for line in run.said), "the resume")
    assert not psutil.pid_exists(helper) or psutil.Process(helper).status() == psutil.STATUS_ZOMBIE
    assert run.wait() == 0
    # and those of one that ended by itself are left, as without ckptd
    second = int(run.err.split("helper ")[2].split()[0])
    assert psutil.Process(second).status() != psutil.STATUS_ZOMBIE
    psutil.Process(second).kill()


def test_quiet_and_verbose(fake):
    run = fake(30, hold=10, flags=["-q"])
    run.line("5")
    run.child().terminate()
    assert run.wait() == 0
    assert run.said == []
    loud = fake(30, flags=["-v", "--fresh"])
    assert loud.wait() == 0
    assert any("runs as process" in line for line in loud.said)


def test_program_survives_the_death_of_ckptd(fake):
    run = fake(100, pace=0.01)
    run.line("5")
    child = run.child()
    run.process.kill()
    run.process.wait()
    run.line("100")
    run.until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "its end")
    assert numbers(run) == list(range(1, 101))


def test_orphan_is_not_started_a_second_time(fake):
    run = fake(1000)
    run.line("5")
    child = run.child()
    run.process.kill()
    run.process.wait()
    again = fake(1000)
    assert again.wait() == 11
    assert f"still runs as process {child.pid}" in again.said[0]
    child.kill()


def test_locked(fake):
    run = fake(1000)
    run.line("3")
    again = fake(1000)
    assert again.wait() == 11
    assert "held by process" in again.said[0]
    assert len(again.said) == 1

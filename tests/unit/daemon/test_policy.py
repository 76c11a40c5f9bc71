import signal

import pytest

from ckptd import states
from ckptd.daemon.policy import Ending, decide, restart_delay, shell_status


def outcome(restarts=0, max_restarts=3, **fields):
    return decide(
        Ending(**{"hello": True, **fields}), restarts=restarts, max_restarts=max_restarts, base_delay=1.0
    )


def test_a_normal_end():
    done = outcome(status=0)
    assert (done.relaunch, done.status, done.state, done.why) == (False, 0, states.FINISHED, "")


@pytest.mark.parametrize("status", [0, 1, 3, -15])
def test_after_a_notice_any_status_is_an_interruption_once_it_is_saved(status):
    done = outcome(status=status, noticed=True, saved=True, has_checkpoint=True)
    assert done.relaunch
    assert done.delay == 0


def test_after_a_notice_before_the_resume_too():
    assert outcome(status=-15, noticed=True, resuming=True, has_checkpoint=True).relaunch


def test_a_program_that_ends_by_itself_after_a_notice_has_finished():
    assert outcome(status=0, noticed=True).state == states.FINISHED


def test_interruptions_do_not_count_as_restarts():
    assert outcome(status=-15, noticed=True, saved=True, restarts=3, has_checkpoint=True).relaunch


@pytest.mark.parametrize("status", [1, 3, 255])
def test_ordinary_failure_before_the_first_checkpoint(status):
    done = outcome(status=status)
    assert (done.relaunch, done.status, done.state, done.why) == (False, status, states.FAILED, "")


def test_ordinary_failure_after_a_checkpoint():
    done = outcome(status=1, has_checkpoint=True)
    assert (done.relaunch, done.delay, done.restarts) == (True, 1.0, 1)


def test_restarts_run_out():
    done = outcome(status=-9, has_checkpoint=True, restarts=3)
    assert (done.relaunch, done.status) == (False, 137)
    assert done.why == "the job was killed by SIGKILL after 3 restarts without progress: not restarted"


def test_progress_starts_the_count_anew():
    done = outcome(status=-9, has_checkpoint=True, restarts=3, progressed=True)
    assert (done.relaunch, done.restarts, done.delay) == (True, 1, 1.0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_killed_before_the_first_checkpoint_starts_again(number):
    assert outcome(status=-number, hello=False).relaunch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE])
def test_deaths_that_somebody_chose(number):
    done = outcome(status=-number, has_checkpoint=True)
    assert (done.relaunch, done.status) == (False, 128 + number)


def test_out_of_reach_is_never_restarted():
    done = outcome(status=-9, reachable=False, hello=False)
    assert (done.relaunch, done.status) == (False, 137)


def test_killed_at_the_deadline():
    done = outcome(status=-9, noticed=True, killed=True)
    assert done.relaunch
    assert "did not leave in time" in done.why


def test_refused():
    done = outcome(status=14, resuming=True, refused="because", has_checkpoint=True, stopping=True)
    assert (done.relaunch, done.status, done.state, done.why) == (False, 14, states.REFUSED, "because")


@pytest.mark.parametrize(
    ("fields", "status", "state"),
    [
        ({"status": -15, "saved": True, "has_checkpoint": True}, 75, states.STOPPED),
        ({"status": 0, "saved": True, "has_checkpoint": True}, 75, states.STOPPED),
        ({"status": 0}, 0, states.FINISHED),
        ({"status": 0, "has_checkpoint": True}, 0, states.FINISHED),
        ({"status": 0, "has_checkpoint": True, "resuming": True}, 75, states.STOPPED),
        ({"status": -9, "killed": True, "has_checkpoint": True}, 75, states.STOPPED),
        ({"status": -9, "killed": True}, 137, states.FAILED),
        ({"status": -2, "passed_on": True}, 130, states.FAILED),
        ({"status": -2, "passed_on": True, "has_checkpoint": True}, 130, states.STOPPED),
        ({"status": -15, "hello": False}, 143, states.FAILED),
        ({"status": 7, "hello": False}, 7, states.FAILED),
        ({"status": -15, "hello": False, "has_checkpoint": True, "resuming": True}, 75, states.STOPPED),
    ],
)
def test_stops(fields, status, state):
    done = outcome(stopping=True, **fields)
    assert (done.relaunch, done.status, done.state) == (False, status, state)


def test_delays_grow_up_to_a_minute():
    assert [restart_delay(n, 1.0) for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert restart_delay(1000, 1.0) == 60
    assert restart_delay(3, 0.0) == 0


def test_shell_status():
    assert [shell_status(n) for n in (0, 3, 255, -9)] == [0, 3, 255, 137]

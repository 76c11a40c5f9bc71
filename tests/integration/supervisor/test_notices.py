"""What a notice does to a job: by the word of a real source, and by that of another command."""

from __future__ import annotations

import json
import sys
import time

import pytest
from fakes.aws import FakeAws
from fakes.azure import FakeAzure
from fakes.gcp import FakeGcp

from ckptd import control
from ckptd.client import Client, new_ask
from ckptd.daemon.notices import MARGIN, SHORTEST
from ckptd.store.layout import open_store
from ckptd.store.reader import list_checkpoints


def record(run):
    return json.loads(next(run.store.glob("jobs/*/job.json")).read_bytes())


def tell(run, name, seconds, *, kind="leave", how="", withdrawn=False, source="drill"):
    """Tell the job of a notice whose deadline is in ``seconds``; returns that deadline, monotonic seconds."""
    deadline = None if seconds is None else time.monotonic() + seconds
    with Client(record(run)["extra"]["listens"]["at"], "the job") as client:
        client.ask(
            control.Tell(new_ask(), source, kind, name, deadline, f"the test says {name}", withdrawn, how)
        )
    return deadline


def look(run):
    with Client(record(run)["extra"]["listens"]["at"], "the job") as client:
        return client.ask(control.Look(new_ask()))


def saved(run):
    """Checkpoints in the store, the oldest first."""
    (folder,) = open_store(run.store).jobs()
    manifests = [found.manifest for found in list_checkpoints(folder)]
    return [(manifest.step, manifest.reason) for manifest in manifests if manifest is not None]


def begun(fake, *flags, **keys):
    run = fake(100_000, flags=["-v", *flags], **keys)
    run.line("3")
    return run


def measured(fake, *flags, **keys):
    """A job of which a dump has shown what one takes."""
    run = begun(fake, *flags, **keys)
    with Client(record(run)["extra"]["listens"]["at"], "the job") as client:
        client.ask(control.Save(new_ask()), 10)
    return run


def test_a_late_leave_saves_at_once_trains_on_and_leaves_in_time(fake):
    run = measured(fake)
    deadline = tell(run, "one", MARGIN + 2.5)
    run.until(lambda: len(saved(run)) == 2, "the first checkpoint for it")
    first = saved(run)[-1]
    assert first[1] == "notice"
    assert run.wait() == 75
    assert time.monotonic() < deadline
    last = saved(run)[-1]
    assert last[0] > first[0] + 20, "it did not train on"
    assert (
        "notice: the test says one (6 s left)" in run.err or "notice: the test says one (7 s left)" in run.err
    )
    assert "the test says one: saved step" in run.err


def test_a_late_leave_reckons_with_long_steps(fake):
    """The next safe point may be a whole step away."""
    run = measured(fake, pace=0.8)
    deadline = tell(run, "one", MARGIN + 4)
    assert run.wait() == 75
    assert deadline - time.monotonic() > MARGIN + 0.5


def test_leave_at_once(fake):
    run = begun(fake, "--on-notice", "leave")
    tell(run, "one", 60)
    assert run.wait() == 75
    assert len(saved(run)) == 1


def test_advice_is_taken_and_training_goes_on(fake):
    run = begun(fake)
    tell(run, "one", None, kind="advice")
    run.until(lambda: saved(run), "the checkpoint")
    step = saved(run)[0][0]
    run.line(str(step + 20))
    tell(run, "one", None, kind="advice")  # the same once more is nothing new
    run.line(str(step + 40))
    assert len(saved(run)) == 1
    run.process.terminate()
    assert run.wait() == 75


def test_relaunch(fake):
    run = begun(fake)
    tell(run, "one", 20, how="relaunch")
    run.until(lambda: "resumed at step" in run.err, "the second start")
    assert record(run)["attempt"] == 2
    run.process.terminate()
    assert run.wait() == 75


def test_of_two_notices_the_earlier_counts(fake):
    run = begun(fake)
    tell(run, "far", 300)
    run.until(lambda: saved(run), "the first checkpoint")
    deadline = tell(run, "near", MARGIN + 1.5, source="other")
    assert run.wait() == 75
    assert time.monotonic() < deadline


def test_a_notice_that_is_withdrawn_before_the_job_has_left(fake):
    run = measured(fake)
    tell(run, "one", MARGIN + 2)
    run.until(lambda: len(saved(run)) == 2, "the first checkpoint for it")
    tell(run, "one", None, withdrawn=True)
    run.until(lambda: "notice withdrawn" in run.err, "the word of it")
    time.sleep(3)  # beyond the moment at which it would have left
    assert run.process.poll() is None
    step = int(run.out.split()[-1])
    run.line(str(step + 10))
    run.process.terminate()
    assert run.wait() == 75


def test_a_notice_that_is_withdrawn_while_the_job_leaves_has_it_started_again(fake):
    run = begun(fake, dump="slow")
    tell(run, "one", 60, how="leave")
    run.until(lambda: record(run)["extra"]["state"] == "dumping", "the dump")
    tell(run, "one", None, withdrawn=True)
    run.until(lambda: "resumed at step" in run.err, "the second start")
    assert run.process.poll() is None
    run.process.terminate()
    assert run.wait() == 75


def test_a_notice_that_is_withdrawn_leaves_a_users_own_stop_alone(fake):
    run = begun(fake, dump="slow")
    tell(run, "one", 60, how="leave")
    run.until(lambda: record(run)["extra"]["state"] == "dumping", "the dump")
    with Client(record(run)["extra"]["listens"]["at"], "the job") as client:
        client.ask(control.Halt(new_ask(), 30.0))
    tell(run, "one", None, withdrawn=True)
    assert run.wait() == 75


def test_of_two_notices_one_withdrawn_the_other_counts(fake):
    run = measured(fake)
    tell(run, "one", MARGIN + 3)
    tell(run, "two", 300, source="other")
    run.until(lambda: len(saved(run)) >= 2, "the first checkpoint for them")
    tell(run, "two", None, source="other", withdrawn=True)
    assert run.wait() == 75


@pytest.mark.parametrize("seconds", [-3600.0, 0.01, None])
def test_a_deadline_that_has_passed_or_is_not_known(fake, seconds):
    """By whose clock, nobody knows: as long as we are here there is something to save."""
    run = begun(fake)
    begin = time.monotonic()
    tell(run, "one", seconds)
    assert run.wait() == 75
    assert time.monotonic() - begin < SHORTEST
    assert saved(run)


def test_a_last_dump_that_fails_is_tried_again_until_the_deadline(fake):
    run = begun(fake, dump="refuse")
    tell(run, "one", MARGIN + 3)
    run.until(lambda: run.err.count("could not save") >= 4, "more than one try")
    assert run.process.poll() is None
    run.process.kill()


def test_before_there_is_anything_to_save_nothing_is_ended(start, tmp_path):
    program = tmp_path / "slow.py"
    program.write_text("import time\nprint(3, flush=True)\ntime.sleep(2)\n")
    run = start(sys.executable, program, flags=["-v"])
    run.line("3")
    tell(run, "one", 1.0)
    run.until(lambda: "nothing can be saved yet" in run.err, "the word of it")
    assert run.wait() == 0


def test_google_preempts_within_a_second(fake):
    with FakeGcp() as gcp:
        env = {"GCE_METADATA_HOST": gcp.host}
        run = begun(fake, "--notices", "gcp", "--on-notice", "leave", popen={"env": env})
        run.until(lambda: gcp.asked, "the first question")
        run.until(lambda: look(run)["notices"][0]["state"] == "ok", "its health")
        told = time.monotonic()
        gcp.mark()
        run.until(lambda: record(run)["extra"]["state"] != "running", "the dump")
        assert time.monotonic() - told < 1.0
        assert run.wait() == 75


def test_amazon_advises_then_terminates(fake):
    with FakeAws() as aws:
        env = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": aws.url}
        run = begun(fake, "--notices", "aws", popen={"env": env})
        aws.advise()
        run.until(lambda: len(saved(run)) == 1, "the checkpoint for the advice")
        aws.mark(seconds=MARGIN + 4)
        run.until(lambda: len(saved(run)) == 2, "the one for the notice")
        assert run.wait() == 75
        assert len(saved(run)) == 3


@pytest.mark.parametrize(("flags", "count"), [((), 0), (("--azure-ack",), 1)])
def test_azure_is_told_only_when_asked_to_and_once_the_job_is_saved(fake, flags, count):
    with FakeAzure() as azure:
        env = {"CKPTD_AZURE_METADATA": azure.url}
        run = begun(fake, "--notices", "azure", "--on-notice", "leave", *flags, popen={"env": env})
        event = azure.mark()
        assert run.wait() == 75
        assert azure.acknowledged == [event] * count
        assert saved(run)


def test_who_waits_for_a_checkpoint_gets_the_one_that_the_job_leaves_with(fake):
    """An agent that is asked to leave need not answer what it was asked for before."""
    run = begun(fake, dump="last")
    with Client(record(run)["extra"]["listens"]["at"], "the job", run.process.pid) as client:
        asked = control.Save(new_ask())
        client.send(asked)
        client.ask(control.Look(new_ask()))  # it has been read
        run.process.terminate()
        (reply,) = [
            each for each in client.hear(10) if isinstance(each, control.Reply) and each.ask == asked.ask
        ]
    assert run.wait() == 75
    assert reply.status == 0
    assert reply.facts["step"] == saved(run)[-1][0]

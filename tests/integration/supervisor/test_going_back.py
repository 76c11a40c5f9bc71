"""``--from`` and the flags that keep checkpoints, as a job under supervision sees them."""

from __future__ import annotations

import json


def checkpoints(run):
    return sorted(int(path.name[:12]) for path in run.store.glob("jobs/*/checkpoints/0*"))


def manifest(run, step):
    (path,) = run.store.glob(f"jobs/*/checkpoints/{step:012d}-*/manifest.json")
    return json.loads(path.read_text())


def stop(run):
    run.process.terminate()
    assert run.wait() == 75
    return int(run.out.split()[-1])


def test_going_back_and_on_again(fake):
    run = fake(60, due="yes", flags=["--every", "5steps", "--keep-last", "9"])
    run.line("22")
    last = stop(run)
    before = checkpoints(run)
    assert before[:4] == [5, 10, 15, 20]
    assert before[-1] == last

    back = fake(60, due="yes", flags=["--every", "5steps", "--keep-last", "2", "--from", "10"])
    back.line("16")
    stopped = stop(back)
    assert back.out.split()[0] == "11"
    assert f"--from 10: later checkpoints, up to step {last}, stay until" in back.err
    assert "goes on from step 10" in back.err
    newest = manifest(back, stopped)
    assert (newest["branch"], newest["branch_step"]) == (1, 10)
    left = checkpoints(back)
    assert last in left  # ahead of what has been done again: kept, though --keep-last is 2
    assert 5 not in left

    on = fake(60, due="yes", flags=["--every", "5steps", "--keep-last", "2"])
    assert on.wait() == 0
    assert on.out.split()[0] == str(stopped + 1)
    assert last not in checkpoints(on) or last in (55, 60)
    assert len(checkpoints(on)) == 2


def test_a_step_without_a_checkpoint(fake):
    run = fake(40, due="yes", flags=["--every", "5steps", "--keep-last", "9"])
    run.line("12")
    stop(run)
    refused = fake(40, due="yes", flags=["--from", "7"])
    assert refused.wait() == 2
    assert "has no checkpoint at that step; there are 5, 10" in refused.err
    assert refused.out == ""
    both = fake(40, flags=["--from", "5", "--fresh"])
    assert both.wait() == 2


def test_a_finished_job_can_be_gone_back_on(fake):
    run = fake(22, due="yes", flags=["--every", "10steps"])
    assert run.wait() == 0
    again = fake(22, due="yes", flags=["--from", "10"])
    assert again.wait() == 0
    assert again.out.split()[0] == "11"


def test_secrets_of_the_environment_are_not_kept(fake):
    run = fake(40, popen={"env": {"MY_API_KEY": "hunter2", "EXPERIMENT": "blue"}})
    run.line("3")
    step = stop(run)
    (path,) = run.store.glob("jobs/*/checkpoints/0*/manifest.json")
    assert "hunter2" not in path.read_text()
    environment = manifest(run, step)["facts"]["environment"]
    assert environment["EXPERIMENT"] == "blue"
    assert "MY_API_KEY" not in environment

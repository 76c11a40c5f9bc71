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
    run = fake(90, due="yes", flags=["--every", "5steps", "--keep-last", "19"])
    run.until(lambda: len(checkpoints(run)) > 3, "four checkpoints")
    last = stop(run)
    before = checkpoints(run)
    assert before[-1] == last
    first, origin = before[:2]  # as a rule 5 and 10; a disk that is slow is given time

    back = fake(90, due="yes", flags=["--every", "5steps", "--keep-last", "2", "--from", str(origin)])
    back.line(str(origin + 6))
    stopped = stop(back)
    assert back.out.split()[0] == str(origin + 1)
    assert f"--from {origin}: later checkpoints, up to step {last}, stay until" in back.err
    assert f"goes on from step {origin}" in back.err
    newest = manifest(back, stopped)
    assert (newest["branch"], newest["branch_step"]) == (1, origin)
    left = checkpoints(back)
    if stopped < last:
        assert last in left  # ahead of what has been done again: kept, though --keep-last is 2
    assert first not in left

    on = fake(90, due="yes", flags=["--every", "5steps", "--keep-last", "2"])
    assert on.wait() == 0
    assert on.out.split()[0] == str(stopped + 1)
    assert last not in checkpoints(on) or last > 80
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
    run = fake(40, hold=10, popen={"env": {"MY_API_KEY": "hunter2", "EXPERIMENT": "blue"}})
    run.line("3")
    step = stop(run)
    (path,) = run.store.glob("jobs/*/checkpoints/0*/manifest.json")
    assert "hunter2" not in path.read_text()
    environment = manifest(run, step)["facts"]["environment"]
    assert environment["EXPERIMENT"] == "blue"
    assert "MY_API_KEY" not in environment

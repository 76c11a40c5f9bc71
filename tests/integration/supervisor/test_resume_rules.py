"""What is resumed, what is refused, what begins anew; and what the store's damage does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil


def checkpoints(run):
    return sorted(run.store.glob("jobs/*/checkpoints/0*"))


def stop_at(run, line="5"):
    run.line(line)
    run.process.terminate()
    assert run.wait() == 75
    return int(checkpoints(run)[-1].name[:12])


def test_fresh_starts_over_and_keeps_the_old_until_the_first_commit(fake):
    stop_at(fake(40, hold=10))
    run = fake(40, hold=10, flags=["--fresh"])
    run.line("3")
    assert len(list(run.store.glob("jobs/*/earlier-*/0*"))) == 1
    assert checkpoints(run) == []
    stop_at(run)
    assert run.out.split()[0] == "1"
    assert list(run.store.glob("jobs/*/earlier-*")) == []
    assert len(checkpoints(run)) == 1


def test_a_finished_command_simply_starts_anew(fake):
    first = fake(20, hold=10)
    first.line("5")
    first.child().terminate()
    assert first.wait() == 0
    again = fake(20)
    assert again.wait() == 0
    assert again.out.split() == [str(n) for n in range(1, 21)]
    assert again.said == []


def test_changed_source_is_named(fake, tmp_path):
    source = tmp_path / "model.py"
    source.write_text("width = 1\n")
    step = stop_at(fake(40, hold=10, source=source))
    source.write_text("width = 2\n")
    refused = fake(40, source=source)
    assert refused.wait() == 14
    assert refused.out == ""
    assert len(refused.said) == 1
    assert str(source) in refused.said[0]
    assert "--fresh" in refused.said[0]
    assert "--allow-changed" in refused.said[0]
    allowed = fake(40, source=source, flags=["--allow-changed"])
    assert allowed.wait() == 0
    assert allowed.out.split()[0] == str(step + 1)


def test_named_job_with_another_command(fake, tmp_path):
    stop_at(fake(40, hold=10, flags=["--name", "mine"]))
    other = fake(41, flags=["--name", "mine"])
    assert other.wait() == 14
    assert "was begun as" in other.said[0]
    allowed = fake(41, flags=["--name", "mine", "--allow-changed"])
    assert allowed.wait() == 0


def test_damaged_checkpoint_is_said_and_the_older_one_taken(fake):
    run = fake(200, flags=["--every", "0.1s"])
    run.until(lambda: len(checkpoints(run)) >= 2, "two checkpoints")
    run.process.terminate()
    assert run.wait() == 75
    # By step, then by time: the stop may have come at the very step of a periodic one.
    older, newest = sorted(checkpoints(run), key=lambda path: (path.name[:12], path.stat().st_mtime_ns))[-2:]
    (tensors,) = newest.glob("graph.msgpack*")
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)
    again = fake(200)
    again.until(lambda: again.out, "the program")
    (line,) = [line for line in again.said if f"checkpoint {newest.name} is damaged" in line]
    assert f"going back to step {int(older.name[:12])}" in line
    assert again.out.split()[0] == str(int(older.name[:12]) + 1)


def test_no_checkpoint_is_whole(fake):
    run = fake(40, hold=10)
    stop_at(run)
    manifest = checkpoints(run)[0] / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    again = fake(40)
    assert again.wait() == 13
    assert again.out == ""
    assert len(again.said) == 1
    assert "--fresh" in again.said[0]
    assert fake(40, flags=["--fresh"]).wait() == 0


def test_hash_seed_is_kept_for_the_job(fake):
    run = fake(1000)
    stop_at(run)
    record = next(run.store.glob("jobs/*/job.json"))
    seed = json.loads(record.read_text())["hashseed"]
    again = fake(1000)
    again.line("30")
    environ = again.child().environ()
    assert environ["PYTHONHASHSEED"] == seed
    assert environ["CKPTD_RESUME"] == str(checkpoints(run)[0])


def test_ps(fake, tmp_path):
    run = fake(40, hold=10)

    def listing(*flags):
        command = [sys.executable, "-m", "ckptd", "ps", "--store", str(run.store), *flags]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    run.line("3")
    child = run.child()
    row = run.until(
        lambda: [r for r in json.loads(listing("--json")) if r["state"] == "running"], "it to run"
    )[0]
    assert row["pid"] == child.pid
    assert row["supervisor"] == run.process.pid
    assert row["attempt"] == 1
    stop_at(run)
    row = json.loads(listing("--json"))[0]
    assert (row["state"], row["pid"], row["supervisor"]) == ("stopped", None, None)
    assert row["step"] == int(checkpoints(run)[0].name[:12])
    assert row["checkpoint"] == checkpoints(run)[0].name[13:]
    table = listing()
    assert table.splitlines()[0].split()[:3] == ["ID", "NAME", "STATE"]
    assert "fake_agent" in table


def test_ps_calls_a_job_lost_whose_ckptd_was_killed(fake):
    run = fake(1000)
    run.line("3")
    child = run.child()
    run.process.kill()
    run.process.wait()
    command = [sys.executable, "-m", "ckptd", "ps", "--store", str(run.store), "--json"]
    row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)[0]
    assert row["state"] == "lost"
    child.kill()


def test_segments_of_a_dead_supervisor_are_swept(fake):
    run = fake(1000)
    run.line("3")
    child = run.child()
    segments = child.environ()["CKPTD_SEGMENTS"]
    assert os.stat(segments).st_mode & 0o777 == 0o700
    stale = os.path.join(segments, "stale.seg")
    with open(stale, "wb") as file:
        file.write(b"x")
    run.process.kill()
    run.process.wait()
    child.kill()
    psutil.wait_procs([child], timeout=10)
    again = fake(1000)
    again.line("3")
    assert not os.path.exists(stale)


def test_one_that_is_as_it_was_written_and_can_not_be_used_is_tried_twice_at_most(fake):
    run = fake(200, resume="damaged")
    run.line("5")
    run.process.terminate()
    assert run.wait() == 75
    again = fake(200, resume="damaged")
    assert again.wait() == 14
    assert again.out == ""
    assert "the graph needs a tensor that is not there" in again.said[-1]

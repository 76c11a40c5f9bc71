"""Jobs with a remote: real processes, a real S3 server, and what goes wrong between them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import cached_property
from pathlib import Path

import pytest

from ckptd.remote.backend import open_backend
from ckptd.remote.job import RemoteJob, job_ids
from remote.faults import PIECE


def checkpoints(run):
    return sorted(run.store.glob("jobs/*/checkpoints/0*"))


def record(run):
    (path,) = run.store.glob("jobs/*/job.json")
    return json.loads(path.read_text())


def ckptd(*words):
    command = [sys.executable, "-m", "ckptd", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


class Machines:
    """Runs of one job on machines that share nothing but a remote."""

    def __init__(self, fake, folder, url):
        self.fake, self.folder, self.url = fake, folder, url

    def start(self, name, *flags, steps=4000, remote=True, **keys):
        store = self.folder / name
        words = ["--store", str(store), *(["--remote", self.url] if remote else []), *flags]
        run = self.fake(steps, flags=words, **keys)
        run.store = store
        note, last = run.note_children, [0.0]

        def now_and_then():  # to look through all processes of a machine 200 times a second takes all of a core
            if time.monotonic() - last[0] > 0.2:
                last[0] = time.monotonic()
                note()

        run.note_children = now_and_then
        return run

    def stop(self, run, line=None):
        run.line(line or "3")
        run.process.terminate()
        assert run.wait() == 75, run.err
        return int(checkpoints(run)[-1].name[:12])

    @cached_property
    def job(self):
        backend = open_backend(self.url)
        (found,) = job_ids(backend)
        return RemoteJob(backend, found)


@pytest.fixture
def on_disk(fake, tmp_path):
    return Machines(fake, tmp_path, str(tmp_path / "remote"))


@pytest.fixture
def on_s3(fake, tmp_path, bucket):
    return Machines(fake, tmp_path, bucket)


def test_a_fresh_machine_goes_on(on_s3):
    first = on_s3.start("a", "--every", "0.2s")
    first.until(lambda: len(checkpoints(first)) >= 2, "two checkpoints")
    step = on_s3.stop(first)
    second = on_s3.start("b")
    second.until(lambda: second.out.split(), "the program")
    assert second.out.split()[0] == str(step + 1)
    assert f"brought step {step} from {on_s3.url}" in second.said[0]
    (copy,) = checkpoints(second)
    newest = first.store / copy.relative_to(second.store)
    assert {f.name: f.read_bytes() for f in copy.iterdir()} == {
        f.name: f.read_bytes() for f in newest.iterdir()
    }
    assert record(second)["hashseed"] == record(first)["hashseed"]
    last = on_s3.stop(second, str(step + 3))
    assert int(on_s3.job.latest()[:12]) == last
    assert record(second)["extra"]["remote"]["uploaded"] == on_s3.job.latest()


def test_the_remote_is_remembered_until_it_is_dropped(on_disk):
    on_disk.stop(on_disk.start("a"))
    step = on_disk.stop(on_disk.start("a", remote=False), "60")
    assert int(on_disk.job.latest()[:12]) == step
    dropped = on_disk.start("a", "--remote", "none", remote=False)
    assert on_disk.stop(dropped, str(step + 2)) > step
    assert int(on_disk.job.latest()[:12]) == step
    assert "remote" not in record(dropped)["extra"]


def test_a_second_machine_is_refused_and_takes_over_from_one_that_is_gone(on_disk):
    first = on_disk.start("a", "--every", "0.1s")
    first.until(lambda: checkpoints(first) and on_disk.job.latest(), "an upload")
    second = on_disk.start("b")
    assert second.wait() == 11
    assert f"is held by process {first.process.pid} on " in second.said[0]
    assert " until " in second.said[0]
    shown = ckptd("unlock", "--remote", on_disk.url)
    assert f"leased by process {first.process.pid}" in shown.stdout
    assert "--force" in shown.stdout
    child = first.child()
    first.process.kill()
    first.process.wait()
    child.kill()
    third = on_disk.start("c")
    third.until(lambda: third.out.split(), "the program")
    assert "taking the job over" in third.said[0]
    assert int(third.out.split()[0]) > 1
    on_disk.stop(third, third.out.split()[0])


def test_unlock_removes_what_is_stale_and_by_force_what_is_not(on_disk):
    first = on_disk.start("a", "--name", "mine")
    first.line("2")
    assert "stale" not in ckptd("unlock", "--store", first.store).stdout
    (row,) = json.loads(ckptd("unlock", "mine", "--store", first.store, "--force", "--json").stdout)
    assert row["lease"]["removed"]
    assert row["lock"]["pid"] == first.process.pid
    child = first.child()
    first.process.kill()
    first.process.wait()
    child.kill()
    second = on_disk.start("b", "--name", "mine")
    second.line("2")
    child = second.child()
    second.process.kill()
    second.process.wait()
    child.kill()
    assert "was stale and is removed" in ckptd("unlock", "--remote", on_disk.url).stdout
    assert "nobody holds it" in ckptd("unlock", "--remote", on_disk.url).stdout
    assert ckptd("unlock", "--force", "--remote", on_disk.url).returncode == 2


def test_training_and_commits_go_on_while_the_remote_fails(on_s3, s3):
    s3.fail("error")
    run = on_s3.start("a", "--every", "0.1s", pace=0.01)
    seen: set[str] = set()

    def look():
        seen.update(path.name for path in checkpoints(run))
        return len(seen) >= 5 and any("can't be uploaded" in line for line in run.said)

    run.until(look, "five checkpoints, and a word of it")
    run.until(lambda: record(run)["extra"]["remote"].get("error"), "the error in the record")
    assert on_s3.job.names() == []
    s3.heal()
    run.until(
        lambda: any(f"is at {on_s3.url} now" in line for line in run.said), "a word that it works again"
    )
    assert sum("can't be uploaded" in line for line in run.said) == 1
    assert on_s3.stop(run, run.out.split()[-1]) == int(on_s3.job.latest()[:12])
    assert record(run)["extra"]["remote"]["error"] == ""
    names = on_s3.job.names()
    assert len(names) <= 3
    assert len(names) < len(seen)  # only the newest of those that waited


def test_a_short_grace_is_for_the_local_store_first(on_s3, s3):
    run = on_s3.start("a", "--grace", "1s")
    run.line("2")
    s3.delay = 3.0
    s3.fail("slow")
    begin = time.monotonic()
    step = on_s3.stop(run, "4")
    assert time.monotonic() - begin < 8
    assert "the next start finishes it" in run.err
    assert on_s3.job.names() == []
    s3.heal()
    again = on_s3.start("a")
    again.until(lambda: on_s3.job.latest(), "the upload that was left")
    assert int(on_s3.job.latest()[:12]) == step
    assert len([path for path in s3.sent() if PIECE in path]) >= 1
    on_s3.stop(again, str(step + 2))


def test_ckptd_is_killed_while_it_uploads(on_s3, s3):
    seen = []

    def fault(method, path):
        if method == "PUT" and PIECE in path:
            seen.append(path)
            return "slow" if len(seen) > 2 else ""
        return ""

    s3.fault, s3.delay = fault, 60.0
    run = on_s3.start("a", "--every", "0.1s", pace=0.2)
    run.until(lambda: len(s3.sent()) >= 2 and len(seen) > 2, "an upload that hangs")
    child = run.child()
    run.process.kill()
    run.process.wait()
    child.kill()
    before = set(s3.sent())
    assert on_s3.job.names() == []
    s3.heal()
    again = on_s3.start("a", pace=0.2)
    again.until(on_s3.job.latest, "the upload")
    assert on_s3.job.latest() in {path.name for path in checkpoints(run)}
    assert len(s3.sent()) == len(set(s3.sent()))
    assert before <= set(s3.sent())
    on_s3.stop(again, again.out.split()[-1] if again.out.split() else "3")


def test_store_and_remote_that_have_each_gone_on(on_disk):
    first = on_disk.start("a", "--every", "0.1s")
    first.until(lambda: checkpoints(first) and on_disk.job.latest(), "an upload")
    mine = on_disk.stop(first)
    second = on_disk.start("b")
    theirs = on_disk.stop(second, str(mine + 20))
    alone = on_disk.start("a", "--remote", "none", remote=False)
    mine = on_disk.stop(alone, str(mine + 5))
    refused = on_disk.start("a")
    assert refused.wait() == 14
    assert f"--from {theirs}" in refused.said[-1]
    assert f"--from {mine}" in refused.said[-1]
    assert refused.out == ""
    chosen = on_disk.start("a", "--from", str(theirs))
    chosen.until(lambda: chosen.out.split(), "the program")
    assert chosen.out.split()[0] == str(theirs + 1)
    on_disk.stop(chosen, str(theirs + 2))


def test_begun_anew_on_another_machine(on_disk):
    first = on_disk.start("a")
    step = on_disk.stop(first, "30")
    second = on_disk.start("b", "--fresh")
    other = on_disk.stop(second, "5")
    assert other < step
    assert [int(name[:12]) for name in on_disk.job.names()] == [other]
    again = on_disk.start("a")
    again.until(lambda: again.out.split(), "the program")
    assert "begun anew on another machine" in again.said[0]
    assert again.out.split()[0] == str(other + 1)
    on_disk.stop(again, str(other + 2))


def test_a_finished_job_is_finished_everywhere(on_disk):
    first = on_disk.start("a", "--name", "mine", "--every", "0.1s", steps=30)
    assert first.wait() == 0
    second = on_disk.start("b", "--name", "mine", steps=30)
    assert second.wait() == 14
    assert "has finished" in second.said[0]


def test_a_remote_out_of_reach_at_the_start(on_s3, s3):
    s3.fail("refuse", method="GET", where="/")
    run = on_s3.start("a")
    assert run.wait() == 10
    assert "--remote none" in run.said[0]
    assert len(run.said) == 1
    assert run.out == ""


def test_copies_and_prune(on_disk, tmp_path):
    run = on_disk.start("a", "--every", "0.1s")
    run.until(lambda: len(checkpoints(run)) >= 2, "two checkpoints")
    on_disk.stop(run)
    other = f"file://{tmp_path / 'other'}"
    assert ckptd("copy", "--store", run.store, "--all", "--to", other).returncode == 0
    rows = json.loads(ckptd("ls", "--remote", other, "--json").stdout)
    assert {row["id"] for row in rows} == {path.name[13:] for path in checkpoints(run)}
    assert rows[-1]["state"] == "latest"
    down = ckptd("copy", "--remote", other, "latest", "--to", tmp_path / "down", "--json")
    assert json.loads(down.stdout)[0]["id"] == rows[-1]["id"]
    assert ckptd("verify", "--store", tmp_path / "down").returncode == 0
    stray = tmp_path / "other" / "jobs" / rows[0]["job"] / "objects" / "aa" / ("a" * 64)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    assert "1 piece of no checkpoint: 5 B would be freed" in ckptd("prune", "-n", "--remote", other).stdout
    assert stray.exists()
    assert "5 B freed" in ckptd("prune", "--remote", other).stdout
    assert not stray.exists()
    assert "nothing to free" in ckptd("prune", "--remote", other).stdout
    assert ckptd("ls", "--remote", tmp_path / "nothing").returncode == 10
    assert ckptd("run", "--remote", "s3://a:b@c/d", "--", "true").returncode == 2


def test_nothing_of_a_remote_is_imported_without_one():
    code = (
        "import sys, ckptd.cli.main, ckptd.cli.run, ckptd.cli.ls, ckptd.daemon.start\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('fsspec', 's3fs') or 'ckptd.remote' in name])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root, timeout=60
    )
    assert done.stdout.strip() == "[]"

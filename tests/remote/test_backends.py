"""What every remote must be able to do: one suite over all of them."""

from __future__ import annotations

import os
import threading

import pytest
from store_fixtures.making import JOB

from ckptd.errors import DamagedError, LockedError, RemoteError, UsageError
from ckptd.remote.backend import check_url
from ckptd.remote.download import fetch, fetch_latest, fetch_record
from ckptd.remote.folder import FolderBackend
from ckptd.remote.job import RemoteJob, job_ids, open_root
from ckptd.remote.lease import Holder, read_lease
from ckptd.remote.retention import prune, remove, retain, unreferenced
from ckptd.remote.sealed import seal, unseal
from ckptd.remote.upload import upload
from ckptd.store.layout import open_store
from ckptd.store.pins import write_mark
from ckptd.store.reader import newest_valid
from ckptd.store.retention import Mark, Policy
from ckptd.store.verify import verify_checkpoint
from remote.conftest import BEGUN, QUICK


def send(job, shelf, path, **more):
    return upload(job, path, BEGUN, shelf.journal(job.backend), patience=QUICK, **more)


def spoil(job, name, data=b"\0"):
    job.backend.write(job.path(name), data)


def test_objects(backend):
    assert backend.read("a/b", 10) is None
    assert backend.list("a") == {}
    backend.write("a/b", b"one")
    backend.write("a/b", b"other")
    assert backend.read("a/b", 10) == b"other"
    assert backend.read("a/b", 2) == b"oth"  # one more than asked for: it is longer
    assert backend.same("a/b", b"other")
    assert not backend.same("a/b", b"Other")
    assert not backend.same("a/b", b"othe")
    assert not backend.same("a/c", b"other")
    backend.write("a/deep/er", b"x")
    backend.write("ab", b"not below a")
    assert backend.list("a") == {"a/b": 5, "a/deep/er": 1}
    backend.remove("a/b")
    backend.remove("a/b")
    assert backend.list("a") == {"a/deep/er": 1}


def test_what_a_killed_writer_left_goes_after_an_hour(shelf, tmp_path):
    here, backend = shelf("here"), FolderBackend(tmp_path / "remote")
    job = RemoteJob(backend, JOB)
    send(job, here, here.save(1))
    old, young = (tmp_path / "remote" / job.path(f"objects/.tmp-{name}") for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    assert not any(".tmp-" in name for name in job.objects())
    assert retain(job, Policy(last=1), here.folder.checkpoints).checkpoints == []
    assert (old.exists(), young.exists()) == (False, True)
    os.utime(young, (1, 1))
    assert list(prune(job).objects) == ["objects/.tmp-young"]
    assert not young.exists()


def test_only_one_creates(backend):
    assert backend.exclusive
    won = []
    start = threading.Barrier(4)

    def claim(name):
        start.wait()
        if backend.create("leases/1", name.encode()):
            won.append(name)

    threads = [threading.Thread(target=claim, args=(f"n{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert backend.read("leases/1", 10) == won[0].encode()


def test_a_checkpoint_goes_up_and_comes_down_on_another_machine(job, shelf):
    here, there = shelf("here"), shelf("there")
    open_root(job.backend, create=True)
    job.save_record(here.folder.load())
    path = here.save(100, [("big", "F32", 3 << 20), ("small", "U8", 7)])
    write_mark(path, Mark(tags=("paper",)))
    done = send(job, here, path)
    assert job.latest() == path.name
    assert job_ids(job.backend) == [JOB]
    fetched = fetch_latest(job, there.folder, patience=QUICK)
    assert fetched is not None
    assert {f.name: f.read_bytes() for f in fetched.path.iterdir()} == {
        f.name: f.read_bytes() for f in path.iterdir() if f.name != "pin.json"
    } | {"pin.json": (fetched.path / "pin.json").read_bytes()}
    verify_checkpoint(fetched.path)
    assert fetched.nbytes == done.nbytes
    found = newest_valid(there.folder)
    assert found is not None
    assert found.path.name == path.name


def test_what_has_not_changed_is_uploaded_once(job, shelf):
    here = shelf("here")
    first = send(job, here, here.save(1, [("frozen", "F32", 4 << 20), ("head", "F32", 400)]))
    assert first.nbytes > 4 << 20
    # The same bytes in another file: whatever the store links or writes anew.
    other = shelf("other")
    again = send(job, other, other.save(1, []))
    assert again.nbytes < 10_000
    segment = here.save(2, [("head", "F32", 800)])
    second = send(job, here, segment)
    assert second.nbytes < 10_000
    third = upload(job, segment, BEGUN, here.journal(job.backend), patience=QUICK)
    assert third.nbytes == 0


def test_a_record_on_a_fresh_machine(job, shelf, tmp_path):
    here = shelf("here")
    record = here.folder.load()
    argv = ["python", "train.py", "--api-key", "hunter2hunter2"]
    job.save_record(type(record)(**{**vars(record), "argv": argv}))
    raw = job.backend.read(job.path("job.json"), 1 << 20)
    assert b"hunter2" not in raw
    fresh = open_store(tmp_path / "fresh").job(JOB)
    fetch_record(job, fresh)
    assert fresh.load().hashseed == "7"
    assert fresh.load().created == BEGUN


def test_nothing_is_listed_that_lacks_a_piece(job, shelf):
    here, there = shelf("here"), shelf("there")
    old = here.save(1)
    send(job, here, old)
    path = here.save(2, [("w", "F32", 2 << 20)])
    done = send(job, here, path)
    piece = next(p for p in done.entry.pieces().values() if p.nbytes > 1 << 20)
    for data in (b"\0" * piece.nbytes, b"short"):
        spoil(job, piece.name, data)
        with pytest.raises(DamagedError, match="damaged"):
            fetch(job, done.entry, there.folder, patience=QUICK)
    job.backend.remove(job.path(piece.name))
    fetched = fetch_latest(job, there.folder, patience=QUICK)
    assert fetched is not None
    assert fetched.path.name == old.name
    assert "has lost" in fetched.skipped[0][1]
    assert [p.name for p in there.folder.checkpoints.iterdir()] == [old.name]
    assert list(there.folder.work.iterdir()) == []


def test_a_piece_of_the_right_length_and_wrong_content_is_sent_again(job, shelf):
    here = shelf("here")
    path = here.save(2, [("w", "F32", 2 << 20)])
    done = send(job, here, path)
    piece = next(p for p in done.entry.pieces().values() if p.nbytes > 1 << 20)
    job.backend.remove(job.path(f"checkpoints/{path.name}.json"))
    job.backend.remove(job.path("latest.json"))
    spoil(job, piece.name, b"\0" * piece.nbytes)
    assert send(job, here, path).nbytes == piece.nbytes
    assert fetch_latest(job, shelf("there").folder, patience=QUICK) is not None


@pytest.mark.parametrize("what", ["latest", "entry", "record"])
def test_sealed_files_that_were_changed(job, shelf, what):
    here = shelf("here")
    first, second = here.save(1), here.save(2)
    for path in (first, second):
        send(job, here, path)
    job.save_record(here.folder.load())
    name = {"latest": "latest.json", "entry": f"checkpoints/{second.name}.json", "record": "job.json"}[what]
    data = job.backend.read(job.path(name), 1 << 20)
    for damage in (data[: len(data) // 2], data.replace(b"format", b"farmat", 1), b""):
        if damage or job.backend.read(job.path(name), 1 << 20) is not None:
            spoil(job, name, damage or b" ")
        if what == "latest":
            assert job.latest() == second.name
        elif what == "entry":
            assert [e.name for e in job.entries()[0]] == [first.name]
            fetched = fetch_latest(job, shelf("there").folder, patience=QUICK)
            assert fetched is not None
            assert fetched.path.name == first.name
        else:
            with pytest.raises(DamagedError):
                job.load_record()


def test_retention_follows_the_policy_and_keeps_shared_pieces(job, shelf):
    here = shelf("here")
    paths = [here.save(step, [("w", "F32", 1 << 20), ("s", "U8", step)]) for step in (1, 2, 3, 4)]
    write_mark(paths[0], Mark(pinned=True))
    for path in paths:
        send(job, here, path)
    done = retain(job, Policy(last=1), here.folder.checkpoints)
    assert sorted(done.checkpoints) == [paths[1].name, paths[2].name]
    assert job.names() == [paths[0].name, paths[3].name]
    assert unreferenced(job) == {}
    spoil(job, "objects/aa/" + "a" * 64, b"left by somebody")
    assert list(prune(job).objects.values()) == [16]
    for name in job.names():
        fetch(job, job.load_entry(name), shelf("there").folder, patience=QUICK)


def test_latest_is_never_removed(job, shelf):
    here = shelf("here")
    paths = [here.save(step) for step in (1, 2, 3)]
    for path in (paths[2], paths[1], paths[0]):
        send(job, here, path)
    assert job.latest() == paths[0].name  # somebody went back
    assert retain(job, Policy(last=1), here.folder.checkpoints).checkpoints == []
    assert paths[0].name in job.names()


def test_a_run_begun_anew_takes_the_place_of_the_one_before(job, shelf):
    here = shelf("here")
    old = here.save(900)
    send(job, here, old)
    new = here.save(5)
    upload(job, new, BEGUN + 10, here.journal(job.backend), patience=QUICK)
    assert job.latest() == new.name
    assert retain(job, Policy(last=3), here.folder.checkpoints).checkpoints == [old.name]
    assert unreferenced(job) == {}


def test_removal_takes_the_name_first(job, shelf):
    here = shelf("here")
    path = here.save(1)
    done = send(job, here, path)
    removed = remove(job, [done.entry], [])
    assert removed.nbytes == sum(piece.nbytes for piece in done.entry.pieces().values())
    assert job.objects() == {}


def test_leases(job):
    now = [1000.0]
    one, two = (Holder(job, 60, lambda: now[0]) for _ in range(2))
    assert one.acquire() == ""
    with pytest.raises(LockedError, match=r"is held by process \d+ on .* until "):
        two.acquire()
    now[0] += 50
    one.renew()
    now[0] += 50
    with pytest.raises(LockedError):
        two.acquire()
    now[0] += 20
    assert "taking the job over" in two.acquire()
    with pytest.raises(LockedError, match="is held by"):
        one.check()
    with pytest.raises(LockedError):
        one.renew()
    one.release()
    two.check()
    lease = read_lease(job)
    assert lease is not None
    assert lease.expires == now[0] + 60
    two.release()
    assert read_lease(job) is None
    assert one.acquire() == ""


def test_a_lease_that_cannot_be_read_is_taken_over_from_and_its_holder_told(job, monkeypatch):
    monkeypatch.setattr("ckptd.remote.lease.SETTLE", 0.05)
    one, two = Holder(job), Holder(job)
    one.acquire()
    spoil(job, "leases/00000001.json", b"{")
    lease = read_lease(job)
    assert lease is not None
    assert lease.owner == ""
    assert "can't be read" in two.acquire()
    with pytest.raises(LockedError, match="is held by"):
        one.check()
    two.check()


def test_while_a_lease_is_renewed_nobody_else_gets_in(job):
    one, other = Holder(job), Holder(RemoteJob(job.backend, job.id))
    one.acquire()
    done = threading.Event()

    def renew():
        for _ in range(20):
            one.renew()
        done.set()

    thread = threading.Thread(target=renew)
    thread.start()
    while not done.is_set():
        with pytest.raises((LockedError, RemoteError)):
            other.acquire()
        one.check()
    thread.join()
    assert len(job.backend.list(job.path("leases"))) == 1
    one.release()
    assert job.backend.list(job.path("leases")) == {}


def test_of_two_that_take_over_at_once_one_gets_it(job):
    first = Holder(job, 0.0)
    first.acquire()
    won, start = [], threading.Barrier(4)

    def take():
        holder = Holder(RemoteJob(job.backend, job.id))
        start.wait()
        try:
            holder.acquire()
            won.append(holder)
        except LockedError:
            return

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].check()


@pytest.mark.parametrize(
    "url", ["", "s3://key:secret@bucket/x", "file://host/x", "bucket/x", "s3://AKIA@bucket/x"]
)
def test_urls_that_are_none(url):
    with pytest.raises(UsageError):
        check_url(url)


def test_what_only_a_program_could_have_written(job, shelf):
    """Its seal is right, what is in it is not: found by scripts/fuzz-bytes."""
    here = shelf("here")
    path = here.save(1)
    send(job, here, path)
    file = f"checkpoints/{path.name}.json"
    fields = unseal(job.backend.read(job.path(file), 1 << 20), "it")
    for change in ({"manifest": "\ud800"}, {"begun": 10**400}, {"begun": None}):
        spoil(job, file, seal({**fields, **change}))
        with pytest.raises(DamagedError, match="is damaged"):
            job.load_entry(path.name)

"""What networks and servers do: each ends in a verified whole, or in nothing that is listed."""

from __future__ import annotations

import threading
import time

import pytest
from store_fixtures.making import JOB

from ckptd.errors import CkptdError, DamagedError, RemoteError
from ckptd.remote.download import fetch_latest
from ckptd.remote.job import RemoteJob
from ckptd.remote.journal import load_journal
from ckptd.remote.lanes import in_lanes
from ckptd.remote.lease import Holder
from ckptd.remote.patience import GivenUpError, Patience, Stop, insist
from ckptd.remote.upload import upload
from ckptd.store.verify import verify_checkpoint
from remote.conftest import BEGUN, QUICK
from remote.faults import PIECE

SIZES = [(f"w{number}", "F32", 1 << 20) for number in range(4)]
FAULTS = ["refuse", "cut", "spoil", "full", "error", "slow"]


def send(job, shelf, path, **more):
    return upload(job, path, BEGUN, load_journal(shelf.folder, job.backend.url), patience=QUICK, **more)


@pytest.mark.parametrize("how", FAULTS)
def test_an_upload_that_goes_wrong_for_a_while(faulty, shelf, how):
    proxy, backend = faulty
    job, here = RemoteJob(backend, JOB), shelf("here")
    path = here.save(1, SIZES)
    proxy.fail(how, times=2)
    send(job, here, path)
    proxy.heal()
    fetched = fetch_latest(job, shelf("there").folder, patience=QUICK)
    assert fetched is not None
    assert fetched.skipped == ()
    verify_checkpoint(fetched.path)


@pytest.mark.parametrize("how", ["refuse", "cut", "spoil", "full", "error"])
def test_an_upload_that_fails_goes_on_where_it_was(faulty, shelf, how):
    proxy, backend = faulty
    job, here = RemoteJob(backend, JOB), shelf("here")
    old, path = here.save(1), here.save(2, SIZES)
    send(job, here, old)
    proxy.done.clear()
    before = set(proxy.sent())
    seen = []

    def fault(method, where):
        if method == "PUT" and PIECE in where:
            seen.append(where)
            return how if len(set(seen)) > 3 else ""
        return ""

    proxy.fault = fault
    with pytest.raises(RemoteError) as raised:
        send(job, here, path)
    assert "\n" not in str(raised.value)
    proxy.heal()
    assert job.latest() == old.name
    assert job.names() == [old.name]
    proxy.done.clear()
    there = {name for name, size in job.objects().items()}
    send(job, here, path)
    again = {p.split(f"{JOB}/")[1].partition("?")[0] for p in proxy.sent()} - before
    if how != "spoil":  # there its length is right, and it is compared and sent again
        assert again & there == set()
    assert len(again) < len(set(seen)) + len(SIZES)
    assert job.latest() == path.name
    fetched = fetch_latest(job, shelf("there").folder, patience=QUICK)
    assert fetched is not None
    assert fetched.path.name == path.name


@pytest.mark.parametrize(
    ("where", "how"), [("checkpoints/", "cut"), ("checkpoints/", "spoil"), ("latest.json", "spoil")]
)
def test_latest_moves_only_when_the_whole_is_there(faulty, shelf, where, how):
    proxy, backend = faulty
    job, here = RemoteJob(backend, JOB), shelf("here")
    old, path = here.save(1), here.save(2)
    send(job, here, old)
    proxy.fail(how, where=where)
    with pytest.raises(RemoteError):
        send(job, here, path)
    proxy.heal()
    fetched = fetch_latest(job, shelf("there").folder, patience=QUICK)
    assert fetched is not None
    assert fetched.path.name in (old.name, path.name)
    send(job, here, path)
    assert job.latest() == path.name


@pytest.mark.parametrize("how", ["refuse", "cut", "spoil", "error", "slow"])
def test_a_download_that_goes_wrong_for_a_while(faulty, shelf, how):
    proxy, backend = faulty
    job, here = RemoteJob(backend, JOB), shelf("here")
    path = here.save(1, SIZES)
    send(job, here, path)
    proxy.fail(how, method="GET", where="/objects/", times=2 if how != "spoil" else 1)
    fetched = fetch_latest(job, shelf("there").folder, patience=QUICK)
    assert fetched is not None
    verify_checkpoint(fetched.path)


@pytest.mark.parametrize(
    ("how", "kind"), [("cut", RemoteError), ("error", RemoteError), ("spoil", DamagedError)]
)
def test_a_download_that_fails_leaves_nothing(faulty, shelf, how, kind):
    proxy, backend = faulty
    job, here, there = RemoteJob(backend, JOB), shelf("here"), shelf("there")
    send(job, here, here.save(1, SIZES))
    proxy.fail(how, method="GET", where=PIECE)
    with pytest.raises(kind):
        fetch_latest(job, there.folder, patience=QUICK)
    proxy.heal()
    assert list(there.folder.checkpoints.iterdir()) == []
    assert list(there.folder.work.iterdir()) == []
    assert fetch_latest(job, there.folder, patience=QUICK) is not None


def test_a_local_file_that_is_damaged_is_not_uploaded(faulty, shelf):
    _, backend = faulty
    job, here = RemoteJob(backend, JOB), shelf("here")
    path = here.save(1, SIZES)
    (pack,) = path.glob("*.safetensors")
    data = bytearray(pack.read_bytes())
    data[-5] ^= 1
    pack.write_bytes(data)
    with pytest.raises(DamagedError):
        send(job, here, path)
    assert job.objects() == {}
    assert job.names() == []


def test_a_file_that_changes_after_it_was_cut_is_not_uploaded(faulty, shelf):
    _, backend = faulty
    job, here = RemoteJob(backend, JOB), shelf("here")
    path = here.save(1, SIZES)
    (pack,) = path.glob("*.safetensors")
    stop = Stop()
    stop.stop()
    with pytest.raises(GivenUpError):
        send(job, here, path, stop=stop)
    journal = load_journal(here.folder, backend.url)
    upload(job, path, BEGUN, journal, patience=QUICK)
    fresh = RemoteJob(type(backend)(backend._files, f"{backend._root}-2", "s3://other", "s3"), JOB)
    data = bytearray(pack.read_bytes())
    data[-5] ^= 1
    pack.write_bytes(data)
    with pytest.raises(DamagedError, match="not what they were"):
        upload(fresh, path, BEGUN, journal, patience=QUICK)
    assert fresh.names() == []


def test_a_paused_upload_begins_no_piece(faulty, shelf):
    proxy, backend = faulty
    job, here = RemoteJob(backend, JOB), shelf("here")
    path = here.save(1, SIZES)
    stop = Stop()
    stop.hold()
    thread = threading.Thread(target=lambda: send(job, here, path, stop=stop))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    assert proxy.sent() == []
    stop.go()
    thread.join(20)
    assert job.latest() == path.name


def test_a_holder_that_was_held_up_does_not_move_latest(faulty, shelf):
    _, backend = faulty
    job, here = RemoteJob(backend, JOB), shelf("here")
    now = [1000.0]
    slow, quick = (Holder(job, 60, lambda: now[0]) for _ in range(2))
    slow.acquire()
    now[0] += 100
    quick.acquire()
    with pytest.raises(CkptdError, match="is held by"):
        send(job, here, here.save(1), may=slow.check)
    assert job.names() == []
    quick.check()


def test_patience():
    waits = [Patience(first=1.0, longest=300.0).wait(failures) for failures in range(1, 40)]
    assert all(0.5 * min(300, 2.0**n) <= wait <= min(300, 2.0**n) for n, wait in enumerate(waits))
    tries = []

    def fail(again):
        tries.append(again)
        raise RemoteError("no", again=again)

    with pytest.raises(RemoteError):
        insist(lambda: fail(True), QUICK, Stop())
    assert len(tries) == QUICK.tries
    tries.clear()
    with pytest.raises(RemoteError):
        insist(lambda: fail(False), QUICK, Stop())
    assert len(tries) == 1
    stop = Stop()
    threading.Timer(0.05, stop.stop).start()
    begin = time.monotonic()
    with pytest.raises(GivenUpError):
        insist(lambda: fail(True), Patience(first=30, longest=30), stop)
    assert time.monotonic() - begin < 10


def test_the_first_error_ends_all_lanes():
    done = []

    def work(item):
        if item == 3:
            raise RemoteError("no")
        done.append(item)

    with pytest.raises(RemoteError):
        in_lanes(range(1000), work)
    assert len(done) < 1000

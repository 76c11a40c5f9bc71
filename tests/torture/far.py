"""A process that uploads what it commits, and what must be so of a remote whatever has happened to it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from ckptd.errors import LockedError
from ckptd.remote.backend import Backend, open_backend
from ckptd.remote.download import fetch, fetch_latest
from ckptd.remote.job import MARKER, RemoteJob, open_root
from ckptd.remote.journal import load_journal
from ckptd.remote.lease import SECONDS, Holder, read_lease
from ckptd.remote.retention import prune, retain, unreferenced
from ckptd.remote.upload import upload
from ckptd.store.layout import open_store
from ckptd.store.reader import newest_valid
from ckptd.store.retention import Policy
from torture.judge import Promises, check_contents, expect
from torture.kill import Scene, check_stores
from torture.work import JOB, Say, Setting, Work

MOST_OPERATIONS = 60
"""At a bucket, before a process is killed: some two uploads."""


class Uploading(Work):
    """One process's life."""

    def __init__(self, setting: Setting, chance: random.Random, say: Say, backend: Backend) -> None:
        super().__init__(setting, chance, say)
        open_root(backend, create=True)
        self._far = RemoteJob(backend, JOB, remember=True)
        self._holder = Holder(self._far)
        self._holder.acquire()
        self._journal = load_journal(self.folder, backend.url)
        if self._far.load_record() is None:
            self._far.save_record(self.folder.load())
        if self._newest is not None:
            self.upload()

    def go_on(self, rounds: int = 10**9) -> None:
        """Do one thing after another."""
        others = [self.forget, self.pin, self.unpin, self.record, self.renew, self.prune_far, self.leave]
        for _ in range(rounds):
            self.commit()
            if self._chance.random() < 0.7:
                self.retain()
            if self._chance.random() < 0.8:
                self.upload()
            self._chance.choice(others)()
            if self._chance.random() < 0.05:
                self.begin_anew()
                self.folder.save(replace(self.folder.load(), created=time.time()))

    def upload(self) -> None:
        """The newest, and then what the policy lets go there."""
        assert self._newest is not None
        if not self._newest.exists():
            return  # put aside
        begun = self.folder.load().created
        done = upload(self._far, self._newest, begun, self._journal, may=self._holder.check)
        self._say(f"uploaded {done.entry.name}")
        if self._chance.random() < 0.7:
            retain(self._far, Policy(last=2), self.folder.checkpoints, self._holder.check)

    def renew(self) -> None:
        """The lease."""
        self._holder.renew()

    def leave(self) -> None:
        """Give the job back, and take it again, as the next start does."""
        self._far.save_record(self.folder.load())
        self._holder.release()
        self._holder.acquire()

    def prune_far(self) -> None:
        """``ckptd prune --remote``."""
        prune(self._far)


@dataclass
class Deadly:
    """A remote at which the process is killed: before or after the so-manieth operation that changes it."""

    inner: Backend
    left: int
    after: bool

    def __getattr__(self, name: str) -> Any:
        own = getattr(self.inner, name)
        return self._counted(own) if name in ("write", "create", "remove") else own

    def _counted(self, own: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            done = own(*words)
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call


def folder_remote(folder: Path) -> Scene:
    """One process, its stores, and a remote in a folder."""
    setting = Setting(folder / "store", folder / "other", folder / "shm")
    setting.shm.mkdir()
    url = f"file://{folder / 'remote'}"

    def live(chance: random.Random, at: int, say: Say) -> None:
        Uploading(setting, chance, say, open_backend(url)).go_on()

    def check(promises: Promises, clean: bool) -> None:
        check_stores(setting, promises, clean)
        check_remote(open_backend(url), promises.uploaded, folder / "fresh", clean)

    return Scene(setting, [live], check, changes=400, seconds=0.15)


def bucket_remote(folder: Path, url: str) -> Scene:
    """The same with a bucket, whose server is another process. Its client has threads: each look is a process too."""
    setting = Setting(folder / "store", folder / "other", folder / "shm")
    setting.shm.mkdir()

    def live(chance: random.Random, at: int, say: Say) -> None:
        backend = open_backend(url)
        if at:
            left = chance.randrange(1, MOST_OPERATIONS)
            backend = Deadly(backend, left, chance.random() < 0.5)
        Uploading(setting, chance, say, backend).go_on()

    def check(promises: Promises, clean: bool) -> None:
        check_stores(setting, promises, clean)
        _in_child(lambda: check_remote(open_backend(url), promises.uploaded, folder / "fresh", clean))

    return Scene(setting, [live], check, seconds=2.0, counts=True)


def _in_child(work: Callable[[], None]) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the parent tells it
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        why = said.read()
    os.waitpid(pid, 0)
    expect(not why, why)


def check_remote(backend: Backend, uploaded: str, fresh: Path, clean: bool) -> None:
    """A remote as the next process, and as another machine, finds it. ``fresh``: for a store. Raises BrokenError."""
    if backend.read(MARKER, 1 << 16) is None:
        expect(not uploaded, "the remote is gone")
        return
    job = RemoteJob(backend, JOB)
    entries, errors = job.entries()
    expect(not errors, f"listed, and can't be read: {errors}")
    names, latest = [entry.name for entry in entries], job.latest()
    expect(not uploaded or uploaded in names, f"{uploaded} was uploaded and is gone; there are {names}")
    expect(latest in names or not (latest or names), f"latest is {latest}; there are {names}")
    folder = open_store(fresh).job(JOB)
    try:
        fetched = fetch_latest(job, folder)
        expect((fetched.path.name if fetched else "") == latest, "a fresh host resumes another")
        expect(fetched is None or not fetched.skipped, "a fresh host finds damage")
        found = newest_valid(folder)
        expect((found.path.name if found else "") == latest, "a fresh host can't resume what it has brought")
        for entry in entries:
            check_contents(fetch(job, entry, folder).path)
    finally:
        shutil.rmtree(fresh)
    _check_lease(job, clean)
    if clean:
        _check_nothing_left(job)


def _check_lease(job: RemoteJob, clean: bool) -> None:
    """Of a dead process: no bar to this machine, and to another one only until it expires."""
    lease = read_lease(job)
    if lease is None:
        return
    expect(lease.gone(), "the lease of a dead process counts")
    expect(lease.expires <= time.time() + SECONDS, "a lease lasts too long")
    if not clean:
        return  # the next process takes it over
    with mock.patch("ckptd.remote.lease.boot", return_value="another machine"):
        try:
            Holder(job).acquire()
        except LockedError:
            pass  # as it must be
        else:
            expect(False, "another machine takes the job though the lease has not expired")
        later = Holder(job, clock=lambda: time.time() + SECONDS + 1)
        later.acquire()
        later.release()
    expect(read_lease(job) is None, "a lease that was given back is there")


def _check_nothing_left(job: RemoteJob) -> None:
    """What ``ckptd prune --remote`` leaves is referred to; parts go once they are old."""
    place = getattr(job.backend, "path", None)
    if isinstance(place, Path):
        for part in place.rglob(".tmp-*"):
            os.utime(part, (1, 1))
    prune(job)
    expect(not unreferenced(job), "pieces of no checkpoint stay")
    expect(not job.backend.leftovers(job.place), "parts stay")


SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


def serve() -> tuple[subprocess.Popen[str], str]:
    """An S3 server on loopback, which ends with its stdin; (it, URL of a folder in a bucket). Sets the environment."""
    import http.client

    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [sys.executable, "-c", SERVER]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("PUT", "/torture")
    expect(connection.getresponse().status == 200, "the server makes no bucket")
    connection.close()
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}", AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true",
    )  # fmt: skip
    import s3fs  # noqa: F401 - here, and not once more in each process

    return server, "s3://torture/runs"

"""An S3 server, a proxy before it, remotes of each kind, and stores to go with them."""

from __future__ import annotations

import errno
import http.client
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from integration.supervisor.conftest import fake, start
from moto.server import ThreadedMotoServer
from store_fixtures.making import JOB, make_checkpoint, make_segment

from ckptd.remote.backend import Backend, open_backend
from ckptd.remote.bucket import BucketBackend, open_files
from ckptd.remote.folder import FolderBackend
from ckptd.remote.job import RemoteJob
from ckptd.remote.journal import Journal
from ckptd.remote.patience import Patience
from ckptd.store.draft import Way
from ckptd.store.job import JobRecord
from ckptd.store.known import Known
from ckptd.store.layout import JobFolder, open_store
from remote.faults import FaultyProxy

__all__ = ["fake", "start"]  # fixtures
QUICK = Patience(tries=3, first=0.01, longest=0.05)
BEGUN = 1.8e9


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """A real S3 server: its host and port."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


def environment(url: str) -> dict[str, str]:
    """What leads a client to the server at ``url``."""
    return {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


def make_bucket(server: tuple[str, int]) -> str:
    """URL of a folder in a new bucket."""
    name = f"b{os.urandom(6).hex()}"
    connection = http.client.HTTPConnection(*server, timeout=20)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    connection.close()
    return f"s3://{name}/runs"


@pytest.fixture(scope="session")
def s3_files(s3_server: tuple[str, int]) -> tuple[Any, str]:
    """A client of the server, and a bucket: to make one takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment("http://{}:{}".format(*s3_server)).items():
            patch.setenv(name, value)
        files, root = open_files(make_bucket(s3_server))
        files.exists(root)  # the client is made when it is first used
    return files, root


@pytest.fixture(scope="session")
def proxied(s3_server: tuple[str, int]) -> Iterator[tuple[FaultyProxy, Any, str]]:
    """A proxy before the server, a client that goes through it, and a bucket."""
    proxy = FaultyProxy(s3_server)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(proxy.url).items():
            patch.setenv(name, value)
        files, root = open_files(make_bucket(s3_server))
        files.exists(root)
    yield proxy, files, root
    proxy.close()


@pytest.fixture
def faulty(proxied: tuple[FaultyProxy, Any, str]) -> tuple[FaultyProxy, BucketBackend]:
    """The proxy, and a remote behind it."""
    proxy, files, root = proxied
    proxy.heal()
    proxy.done.clear()
    place = f"{root}/{os.urandom(6).hex()}"
    return proxy, BucketBackend(files, place, f"s3://{place}", "s3")


@pytest.fixture
def s3(s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy of this test's own; the environment leads there, that of processes too."""
    proxy = FaultyProxy(s3_server)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment(proxy.url).items():
        monkeypatch.setenv(name, value)
    yield proxy
    proxy.close()


@pytest.fixture
def bucket(s3: FaultyProxy, s3_server: tuple[str, int]) -> str:
    """URL of a folder in a bucket of this test's own, behind the proxy."""
    return make_bucket(s3_server)


class PlainShare(FolderBackend):
    """A folder as some shares are: no hard links, and no rename over a file that is there."""

    def _link(self, part: Path, path: Path) -> None:
        raise OSError(errno.EPERM, "operation not permitted", str(path))

    def _rename_over(self, part: Path, path: Path) -> None:
        if path.exists():
            raise FileExistsError(errno.EEXIST, "file exists", str(path))
        part.rename(path)


KINDS = ["memory", "disk", "share", "s3"]


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A remote of each kind."""
    if request.param == "memory":
        return open_backend(f"memory://{os.urandom(6).hex()}/runs")
    if request.param == "disk":
        return open_backend(f"file://{tmp_path / 'remote'}")
    if request.param == "share":
        return PlainShare(tmp_path / "share")
    files, root = request.getfixturevalue("s3_files")
    place = f"{root}/{os.urandom(6).hex()}"
    return BucketBackend(files, place, f"s3://{place}", "s3")


@dataclass
class Shelf:
    """A store with one job."""

    folder: JobFolder
    scratch: Path
    way: Way = field(default_factory=lambda: Way(Known()))

    def save(self, step: int, sizes: list[tuple[str, str, int]] | None = None, **changes: object) -> Path:
        """Commit a checkpoint."""
        segment = make_segment(self.scratch / f"segment-{os.urandom(4).hex()}", sizes)
        try:
            return make_checkpoint(self.folder, segment, step, self.way, **changes)
        finally:
            segment.unlink()

    def journal(self, backend: Backend) -> Journal:
        return Journal(self.folder, backend.url)


@pytest.fixture
def shelf(tmp_path: Path) -> Callable[[str], Shelf]:
    """Make a store with one job."""

    def make(name: str) -> Shelf:
        folder = open_store(tmp_path / name).job(JOB)
        folder.save(JobRecord(JOB, "train", ["python", "train.py"], "/train", BEGUN, hashseed="7"))
        return Shelf(folder, tmp_path)

    return make


@pytest.fixture
def job(backend: Backend) -> RemoteJob:
    """The job at the remote."""
    return RemoteJob(backend, JOB)

"""Another user of this machine: reads nothing of a job, and can't talk to its ckptd or to the daemon."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fuzz_sockets import wire

from ckptd import control
from ckptd.client import Client, new_ask
from ckptd.daemon.places import SegmentFolder, runtime_folder
from ckptd.errors import CkptdError
from harness.hosts import Host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY, SOMEBODY = 65534, 54321


def as_user(uid: int, act: Callable[[], Any]) -> Any:
    """What ``act`` returns in a process of that user's, by way of JSON."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        told: Any = "it failed"
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            told = act()
        finally:
            os.write(write, json.dumps(told).encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        told = json.loads(stream.read())
    os.waitpid(child, 0)
    return told


def refused(act: Callable[[], object]) -> str:
    """'' if the kernel refuses it for want of rights; else what came of it."""
    try:
        return f"done: {act()!r}"
    except PermissionError:
        return ""
    except OSError as error:
        return f"{type(error).__name__}: {error}"


@pytest.fixture
def open_host() -> Iterator[Host]:
    """A host in a place that everybody can get to: what protects it is ckptd's own doing."""
    folder = Path(tempfile.mkdtemp(prefix="ckptd-test-", dir="/tmp"))
    folder.chmod(0o755)
    host = Host(folder)
    host.runtime.chmod(0o755)
    os.umask(umask := os.umask(0o022))
    yield host
    host.end()
    os.umask(umask)
    shutil.rmtree(folder)


def connect(path: Path) -> None:
    """As any program would."""
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(str(path))


def test_nobody_else_reads_a_job_or_talks_to_it(open_host):
    host = open_host
    host.start()
    job = host.job(100_000, flags=("--every", "never"))
    host.steps(job, 3)
    host.ckptd("dump", job)
    places = [Path(host.facts()["endpoint"].removeprefix("ipc://"))]
    places.append(Path(host.record(job)["extra"]["listens"]["at"].removeprefix("ipc://")))
    assert all(place.is_socket() for place in places)
    (segments,) = Path("/dev/shm").glob(f"ckptd-0-{job}-*")
    files = [path for path in [*host.store.rglob("*"), *segments.iterdir()] if path.is_file()]
    names = {path.name for path in files}
    assert {"order.json", "output.log", "ckptd.log", "job.json", "manifest.json"} <= names
    assert any(path.suffix == ".seg" for path in files)
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []

    def pry() -> dict[str, str]:
        tries: dict[str, Callable[[], object]] = {}
        for path in files:
            tries[str(path)] = path.read_bytes
        for folder in (host.store, segments, places[0].parent):
            tries[f"list {folder}"] = partial(os.listdir, folder)
            tries[f"write {folder}"] = partial((folder / "new").write_text, "")
        for place in places:
            tries[f"connect {place}"] = partial(connect, place)
            tries[f"remove {place}"] = place.unlink
        return {name: came for name, act in tries.items() if (came := refused(act))}

    assert as_user(NOBODY, pry) == {}
    # A second lock: the kernel says who connects, whatever the mode of a folder.
    places[0].parent.chmod(0o777)
    for place in places:
        place.chmod(0o777)

    def talk() -> list[str]:
        heard = []
        for place in places:
            raw = wire.Raw(str(place))
            raw.shake_hands()
            raw.socket.settimeout(5.0)
            try:
                heard.append(raw.socket.recv(100).hex())
            except ConnectionResetError:
                heard.append("")
        return heard

    assert as_user(NOBODY, talk) == ["", ""]
    for place in places:
        with Client(f"ipc://{place}", "it") as client:
            assert client.ask(control.Look(new_ask()))


@pytest.mark.parametrize("what", ["a folder", "a link to one's own", "a file"])
def test_a_runtime_folder_that_another_has_made_is_refused(what, monkeypatch, tmp_path):
    for name in ("XDG_RUNTIME_DIR", "CKPTD_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    planted, own = Path(f"/tmp/ckptd-{SOMEBODY}"), Path(f"/tmp/own-{SOMEBODY}")
    own.mkdir(mode=0o700)
    os.chown(own, SOMEBODY, SOMEBODY)

    def plant() -> None:
        if what == "a folder":
            planted.mkdir(mode=0o777)
        elif what == "a file":
            planted.touch()
        else:
            planted.symlink_to(own)

    def begin() -> str:
        try:
            return str(runtime_folder())
        except CkptdError as error:
            return str(error)

    try:
        as_user(NOBODY, plant)
        assert "is not a folder of yours" in as_user(SOMEBODY, begin)
        assert list(own.iterdir()) == []
    finally:
        planted.rmdir() if planted.is_dir() and not planted.is_symlink() else planted.unlink()
        own.rmdir()


def test_shared_memory_that_another_has_taken_is_done_without(tmp_path):
    """Its name can be guessed: whoever takes it must not keep the job from running."""
    name = Path(f"/dev/shm/ckptd-{SOMEBODY}-0123abcd")
    own = Path(tempfile.mkdtemp(prefix="ckptd-test-", dir="/tmp"))
    os.chown(own, SOMEBODY, SOMEBODY)

    def begin() -> list[object]:
        folder = SegmentFolder("0123abcd", own / "spilled")
        told = [folder.in_memory, str(folder.path), folder.path.stat().st_mode & 0o777]
        folder.close()
        return told

    try:
        as_user(NOBODY, lambda: name.mkdir(mode=0o777))
        assert as_user(SOMEBODY, begin) == [False, str(own / "spilled"), 0o700]
        name.rmdir()
        assert as_user(SOMEBODY, begin) == [True, str(name), 0o700]
    finally:
        shutil.rmtree(own)

import multiprocessing
import os

import pytest

from ckptd.daemon import places
from ckptd.errors import CkptdError, LockedError


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_private_folder(tmp_path):
    path = places.private_folder(tmp_path / "a")
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o755)
    places.private_folder(path)
    assert path.stat().st_mode & 0o777 == 0o700


def test_folder_that_others_may_write(tmp_path):
    path = tmp_path / "a"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(CkptdError, match="written by others"):
        places.private_folder(path)


def test_links_and_files_are_no_folders(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(CkptdError, match="not a folder of yours"):
            places.private_folder(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folder_of_another_user(tmp_path):
    path = tmp_path / "a"
    path.mkdir(mode=0o700)
    os.chown(path, 12345, 12345)
    with pytest.raises(CkptdError, match="not a folder of yours"):
        places.private_folder(path)


def test_one_place_one_holder(runtime):
    first = places.Place("key")
    with pytest.raises(LockedError):
        places.Place("key")
    first.close()
    assert list((runtime / "ckptd").iterdir()) == []
    places.Place("key").close()


def test_a_path_too_long_for_a_socket(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    place = places.Place("key")
    assert len(os.fsencode(place.socket)) <= places.IPC_PATH_MAX
    assert place.socket.parent.stat().st_mode & 0o777 == 0o700
    place.close()
    assert not place.socket.parent.exists()


def test_segments_are_swept_and_only_its_own_are_taken(tmp_path):
    shm = tmp_path / "shm"
    shm.mkdir()
    stale = shm / f"ckptd-{os.geteuid()}-key" / "stale"
    stale.parent.mkdir(mode=0o700)
    stale.write_text("x")
    folder = places.SegmentFolder("key", tmp_path / "fallback", shm=shm)
    assert not stale.exists()
    good = folder.path / "a"
    good.write_text("x")
    outside = tmp_path / "b"
    outside.write_text("x")
    (folder.path / "link").symlink_to(outside)
    assert folder.holds(good)
    assert not folder.holds(outside)
    assert not folder.holds(folder.path / "link")
    assert not folder.holds(folder.path / ".." / "b")
    assert not folder.holds(folder.path / "missing")
    folder.close()
    assert not folder.path.exists()
    assert outside.exists()


def test_segments_without_shared_memory(tmp_path):
    folder = places.SegmentFolder("key", tmp_path / "fallback", shm=tmp_path / "none")
    assert folder.path == tmp_path / "fallback"
    folder.close()


def test_what_killed_supervisors_left_is_swept(tmp_path, runtime):
    shm = tmp_path / "shm"
    shm.mkdir()
    dead = shm / f"ckptd-{os.geteuid()}-dead"
    dead.mkdir(mode=0o700)
    (dead / "1.seg").write_text("x")
    foreign = shm / "ckptd-of-somebody"
    foreign.mkdir()
    living = places.SegmentFolder("living", tmp_path / "fallback", shm=shm)
    (living.path / "1.seg").write_text("x")
    own = places.SegmentFolder("own", tmp_path / "fallback", shm=shm)
    assert not dead.exists()
    assert foreign.exists()
    assert (living.path / "1.seg").exists()
    with pytest.raises(LockedError):
        places.SegmentFolder("own", tmp_path / "fallback", shm=shm)
    living.close()
    own.close()

    first = places.Place("first")
    for name in ("dead.sock", "dead.lock"):
        (runtime / "ckptd" / name).write_text("")
    second = places.Place("second")
    assert sorted(path.name for path in (runtime / "ckptd").iterdir()) == ["first.lock", "second.lock"]
    first.close()
    second.close()


def come_and_go(shm, name, rounds):
    for _ in range(rounds):
        place = places.Place(name)
        folder = places.SegmentFolder(name, shm.parent / f"fallback-{name}", shm=shm)
        assert folder.path.is_dir()
        assert place.socket.with_suffix(".lock").exists()
        folder.close()
        place.close()


def test_jobs_that_begin_and_end_at_once_leave_each_other_alone(tmp_path, runtime):
    shm = tmp_path / "shm"
    shm.mkdir()
    context = multiprocessing.get_context("fork")
    crowd = [context.Process(target=come_and_go, args=(shm, f"job{number}", 150)) for number in range(6)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join(60)
    assert [each.exitcode for each in crowd] == [0] * len(crowd)
    assert list(shm.iterdir()) == list((runtime / "ckptd").iterdir()) == []

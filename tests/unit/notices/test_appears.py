"""A file that appears, with or without inotify."""

from __future__ import annotations

import os
import time

import pytest

from ckptd.errors import UsageError
from ckptd.notices import appears
from ckptd.notices.event import ADVICE, LEAVE, PAUSE


@pytest.fixture
def path(tmp_path):
    return tmp_path / "leave"


@pytest.fixture
def file(path, listen):
    listening = listen(appears.file_source(str(path)))
    listening.fares("file", "ok")
    return listening


def write(path, text):
    """All at once, as a careful writer does."""
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def test_it_is_heard_at_once_and_withdrawn_when_it_goes(path, file):
    begun = time.monotonic()
    path.touch()
    notice = file.next()
    assert time.monotonic() - begun < 0.5
    assert (notice.kind, notice.id, notice.deadline, notice.text) == (
        LEAVE,
        str(path),
        None,
        f"{path} is there",
    )
    path.unlink()
    assert file.next().withdrawn
    path.touch()
    assert not file.next().withdrawn


def test_without_inotify_it_is_heard_at_the_next_look(path, listen, monkeypatch):
    def no_inotify():
        raise OSError("inotify watch limit reached")

    monkeypatch.setattr(appears, "Observer", no_inotify)
    listening = listen(appears.file_source(str(path)))
    listening.fares("file", "ok")
    begun = time.monotonic()
    path.touch()
    listening.next()
    assert time.monotonic() - begun <= appears.EVERY + 0.5


@pytest.mark.parametrize(
    ("content", "kind", "left", "text"),
    [
        ("", LEAVE, None, "is there"),
        ("30s\n", LEAVE, 30, "is there"),
        ("90", LEAVE, 90, "is there"),
        ('{"in": "2m", "kind": "pause", "text": "moved"}', PAUSE, 120, "moved"),
        ('{"in": 45.5}', LEAVE, 45.5, "is there"),
        ('{"kind": "advice"}', ADVICE, None, "is there"),
        ('{"at": "2001-01-01T00:00:00Z"}', LEAVE, 0, "is there"),
        ('{"at": "soon"}', LEAVE, None, "not understood"),
        ('{"kind": "explode", "in": "5s"}', LEAVE, 5, "kind is none of"),
        ("presently", LEAVE, None, "not understood"),
        ("\x00\xff", LEAVE, None, "not understood"),
        ("[1]", LEAVE, None, "not understood"),
    ],
)
def test_what_it_holds(path, file, content, kind, left, text):
    write(path, content)
    notice = file.next()
    assert notice.kind == kind
    assert text in notice.text
    if left is None:
        assert notice.deadline is None
    else:
        assert notice.deadline - time.monotonic() == pytest.approx(left, abs=2)


def test_a_time_to_come(path, file):
    write(path, f'{{"at": {time.time() + 60}}}')
    assert file.next().deadline - time.monotonic() == pytest.approx(60, abs=2)


def test_what_is_written_later_moves_the_deadline(path, file):
    path.touch()
    assert file.next().deadline is None
    path.write_text("30s")
    assert file.next().deadline - time.monotonic() == pytest.approx(30, abs=2)


def test_a_duration_counts_from_when_it_was_written(path, listen):
    path.write_text("60s")
    os.utime(path, (time.time() - 50, time.time() - 50))
    assert listen(appears.file_source(str(path))).next().deadline - time.monotonic() == pytest.approx(
        10, abs=2
    )


def test_its_folder_may_come_later_and_go(tmp_path, listen):
    path = tmp_path / "later" / "leave"
    listening = listen(appears.file_source(str(path)))
    listening.fares("file", "ok")
    path.parent.mkdir()
    path.touch()
    listening.next()
    path.unlink()
    path.parent.rmdir()
    assert listening.next().withdrawn


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_there_all_the_same(path, file, make):
    make(path)
    assert file.next().deadline is None


def test_others_in_the_folder_and_our_own_looks_wake_nobody(path, file, monkeypatch):
    looks = []
    whole = appears._read

    def look(path):
        looks.append(path)
        return whole(path)

    monkeypatch.setattr(appears, "_read", look)
    for number in range(20):
        (path.parent / f"other{number}").touch()
    path.touch()
    file.next()
    assert file.maybe(0.6) is None
    assert len(looks) <= 5


def test_where_it_is_has_to_be_said(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="which one"):
        appears.file_source("")
    monkeypatch.chdir(tmp_path)
    assert appears.file_source("leave")._path == tmp_path / "leave"

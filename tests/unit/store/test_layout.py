"""Which folders are stores, and what is written into them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from store_fixtures.making import JOB

from ckptd.errors import DamagedError, NoStoreError, RefusedError, UsageError
from ckptd.store.job import JobRecord
from ckptd.store.layout import MARKER, default_store, open_store
from ckptd.store.manifest import dump_json

RECORD = JobRecord(JOB, "train", ["python", "train.py", "\udcff"], "/somewhere", 1760000000.5)


def test_makes_a_store_and_opens_it_again(tmp_path):
    path = tmp_path / "a" / "b"
    assert open_store(path).path == path
    assert json.loads((path / MARKER).read_text())["format"] == 2
    before = (path / MARKER).read_bytes()
    open_store(path)
    open_store(path, create=False)
    assert (path / MARKER).read_bytes() == before


def test_an_empty_folder_becomes_a_store_even_after_a_kill_in_between(tmp_path):
    (tmp_path / ".tmp-ckptd-store.json-1-00").touch()
    (tmp_path / "jobs").mkdir(mode=0o700)
    (tmp_path / "lost+found").mkdir()
    open_store(tmp_path)
    assert (tmp_path / MARKER).exists()


def refused(path: Path, words: str, **options: bool) -> None:
    with pytest.raises(NoStoreError, match=words) as caught:
        open_store(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.status == 10


def test_a_file_is_no_store(tmp_path):
    file = tmp_path / "file"
    file.write_text("data")
    refused(file, "is a file, not a folder: name another with --store")
    refused(file / "below", "can't be used")
    assert file.read_text() == "data"


def test_a_folder_with_something_else_in_it_is_no_store(tmp_path):
    (tmp_path / "thesis.tex").touch()
    refused(tmp_path, "not empty .*thesis.tex")
    refused(tmp_path, "is not a ckptd store", create=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_is_not_there_is_not_made_for_reading(tmp_path):
    refused(tmp_path / "no", "there is no store", create=False)
    assert not (tmp_path / "no").exists()
    (tmp_path / "link").symlink_to("nowhere")
    refused(tmp_path / "link", "link to nothing")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_what_others_may_write_is_refused(tmp_path, mode):
    path = tmp_path / "store"
    open_store(path)
    for folder in (path, path / "jobs"):
        folder.chmod(mode)
        with pytest.raises(NoStoreError, match=f"written by others .mode {mode:04o}.: chmod go-w {folder}"):
            open_store(path)
        with pytest.raises(NoStoreError, match="written by others"):
            open_store(path, create=False)
        folder.chmod(0o700)
    open_store(path)


def test_what_belongs_to_another_is_refused(tmp_path):
    if os.geteuid() == 0:
        path = tmp_path / "store"
        open_store(path)
        os.chown(path, 12345, -1)
        words = "belongs to user 12345, you are 0"
    else:
        path, words = Path("/usr"), "belongs to user 0"
    refused(path, words)
    refused(path, words, create=False)


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root may write where the mode says no; test_full_disk has read-only"
)
def test_what_cannot_be_written_is_refused_for_writing_only(tmp_path):
    path = tmp_path / "store"
    open_store(path)
    path.chmod(0o500)
    refused(path, "can't be written")
    open_store(path, create=False)
    path.chmod(0o700)


def test_a_newer_format_is_refused(tmp_path):
    open_store(tmp_path / "s")
    (tmp_path / "s" / MARKER).write_text('{"format": 3}')
    for create in (True, False):
        refused(tmp_path / "s", "is of format 3, this ckptd reads 2: update ckptd", create=create)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": "1"}', '{"format": 0}', '{"format": true}', "\xff"]
)
def test_a_damaged_marker_is_refused(tmp_path, text):
    open_store(tmp_path / "s")
    (tmp_path / "s" / MARKER).write_text(text, encoding="latin-1")
    refused(tmp_path / "s", "damaged|names no format")


def test_the_default_follows_the_environment(monkeypatch, tmp_path):
    for name in ("CKPTD_STORE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_store() == tmp_path / ".local" / "state" / "ckptd"
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    assert default_store() == tmp_path / ".local" / "state" / "ckptd"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_store() == Path("/state/ckptd")
    monkeypatch.setenv("CKPTD_STORE", "~/mine")
    assert default_store() == tmp_path / "mine"


def test_jobs_are_found_by_id_and_nothing_else_is_a_job(tmp_path):
    store = open_store(tmp_path / "s")
    assert store.jobs() == []
    for job_id in ("ffffffff", "00000000"):
        store.job(job_id).make()
    (tmp_path / "s" / "jobs" / "notes").mkdir()
    (tmp_path / "s" / "jobs" / "12345678").touch()
    assert [job.id for job in store.jobs()] == ["00000000", "ffffffff"]
    for wrong in ("../../etc", "", "FFFFFFFF", "1234567"):
        with pytest.raises(UsageError):
            store.job(wrong)


def test_a_job_record_round_trips(folder):
    folder.save(RECORD)
    assert folder.load() == RECORD
    ended = replace(
        RECORD, state="failed", exit_status=-9, why="killed", attempt=3, extra={"x": [1]}, updated=2.5
    )
    folder.save(ended)
    assert folder.load() == ended
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoints", "job.json"]


def test_a_wrong_job_record_is_not_written(folder):
    folder.save(RECORD)
    for change in ({"state": "dead"}, {"argv": [1]}, {"id": "ffffffff"}, {"created": float("inf")}):
        with pytest.raises(ValueError):
            folder.save(replace(RECORD, **change))
    assert folder.load() == RECORD


def seal_record(fields: dict[str, object]) -> bytes:
    """Any fields at all as a record whose own hash is right."""
    none = "blake2b_128:" + "0" * 32
    text = json.dumps({**fields, "hash": none}, sort_keys=True, indent=1) + "\n"
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return text.replace(f'\n "hash": "{none}"', f'\n "hash": "blake2b_128:{digest}"').encode()


def test_a_damaged_job_record_is_named(folder):
    path = folder.path / "job.json"
    with pytest.raises(DamagedError, match=r"job.json can't be read: it is not there"):
        folder.load()
    folder.save(RECORD)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError, match=r"job.json is damaged"):
            folder.load()
    path.write_bytes(whole.replace(b'"format": 2', b'"format": 3'))
    with pytest.raises(DamagedError, match="its own hash"):
        folder.load()
    path.write_bytes(seal_record({**json.loads(whole), "format": 3, "what": "is new"}))
    with pytest.raises(RefusedError, match="update ckptd"):
        folder.load()
    path.write_bytes(seal_record({**json.loads(whole), "id": "ffffffff"}))
    with pytest.raises(DamagedError, match="is of job ffffffff"):
        folder.load()
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(DamagedError, match="symbolic link"):
        folder.load()


def test_a_record_of_the_first_version_has_no_hash(folder):
    folder.save(RECORD)
    path = folder.path / "job.json"
    fields = {**json.loads(path.read_bytes()), "format": 1}
    del fields["hash"]
    path.write_bytes(dump_json(fields))
    assert folder.load() == RECORD
    folder.save(folder.load())
    assert json.loads(path.read_bytes())["format"] == 2
    path.write_bytes(dump_json({**fields, "format": 2}))
    with pytest.raises(DamagedError, match="its own hash is not in it"):
        folder.load()


def test_a_job_folder_that_cannot_be_made_is_a_store_error(folder):
    shutil.rmtree(folder.path)
    folder.path.write_text("in the way")
    with pytest.raises(NoStoreError, match="can't make"):
        folder.save(RECORD)


@pytest.mark.parametrize("umask", ["0", "0o777", "0o077"])
def test_modes_do_not_depend_on_the_umask(start, tmp_path, umask):
    process = start(
        """
import os, sys
from pathlib import Path
from store_fixtures.making import *
from ckptd.store.job import JobRecord
from ckptd.store.lock import JobLock
segment = make_segment(Path(sys.argv[1]) / "segment")
os.umask(int(sys.argv[2], 0))
folder = make_job(Path(sys.argv[1]) / "state" / "store")
folder.save(JobRecord(JOB, "n", [], "/", 1.0))
with JobLock(folder):
    make_checkpoint(folder, segment, 1)
""",
        tmp_path,
        umask,
    )
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    modes = {
        str(path.relative_to(tmp_path)): path.stat().st_mode & 0o7777
        for path in (tmp_path / "state", *(tmp_path / "state").rglob("*"))
    }
    assert len(modes) == 15
    assert {name for name, mode in modes.items() if mode not in (0o700, 0o600)} == set()
    assert all(mode == (0o700 if (tmp_path / name).is_dir() else 0o600) for name, mode in modes.items())

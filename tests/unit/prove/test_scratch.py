"""Copies of the working folder: what is in them, and that the folder itself is never written to."""

from __future__ import annotations

import os

import pytest

from ckptd.errors import CkptdError
from ckptd.prove import scratch as scratch_module
from ckptd.prove.runs import move_words
from ckptd.prove.scratch import Scratch


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "project"
    for name in ("pkg", ".git", "pkg/__pycache__", "env", "data", "store", "empty"):
        (folder / name).mkdir(parents=True)
    (folder / "train.py").write_text("print(1)")
    (folder / "pkg" / "model.py").write_text("x = 1")
    (folder / "pkg" / "__pycache__" / "model.pyc").write_bytes(b"")
    (folder / "env" / "pyvenv.cfg").write_text("")
    (folder / "store" / "ckptd-store.json").write_text("{}")
    (folder / ".git" / "HEAD").write_text("")
    (folder / "data" / "big").write_bytes(b"0" * 5000)
    (folder / "run.sh").write_text("")
    (folder / "run.sh").chmod(0o755)
    (folder / "same").symlink_to("train.py")
    (folder / "away").symlink_to(tmp_path / "elsewhere")
    return folder


@pytest.fixture
def root(tmp_path):
    place = tmp_path / "root"
    place.mkdir()
    return place


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_copy_has_what_a_program_may_need(source, root):
    scratch = Scratch(source, root)
    scratch.prepare()
    assert names(scratch.work) == [
        "away", "data", "data/big", "empty", "pkg", "pkg/model.py", "run.sh", "same", "train.py",
    ]  # fmt: skip
    assert os.access(scratch.work / "run.sh", os.X_OK)
    assert (scratch.work / "train.py").stat().st_mtime_ns == (source / "train.py").stat().st_mtime_ns
    assert (scratch.work / "same").resolve() == scratch.work / "train.py"
    assert scratch.copied.skipped == [".git", "env", "pkg/__pycache__", "store"]
    assert scratch.copied.outside == ["away"]
    assert scratch.copied.files == 4


def test_what_a_run_writes_is_told_and_the_next_one_starts_afresh(source, root):
    scratch = Scratch(source, root)
    scratch.prepare()
    (scratch.work / "new").write_text("1")
    (scratch.work / "train.py").write_text("print(2)")
    (scratch.work / "data" / "big").unlink()
    place, written = scratch.keep("one")
    assert (place.name, written) == ("one", ["data/big", "new", "train.py"])
    scratch.prepare()
    assert (scratch.work / "train.py").read_text() == "print(1)"
    assert not (scratch.work / "new").exists()
    assert scratch.keep("two")[1] == []


def test_large_files_that_are_not_written_are_copied_once(source, root, monkeypatch):
    monkeypatch.setattr(scratch_module, "LARGE", 4000)
    monkeypatch.setattr(scratch_module, "_reflink", lambda path, place: False)
    scratch = Scratch(source, root)
    scratch.prepare()
    first, _ = scratch.keep("one")
    assert not (first / "data" / "big").samefile(source / "data" / "big"), "the original is out of reach"
    scratch.prepare()
    assert (scratch.work / "data" / "big").samefile(first / "data" / "big")
    with open(scratch.work / "data" / "big", "ab") as file:
        file.write(b"1")
    with pytest.raises(CkptdError, match="left alone by the first run"):
        scratch.keep("two")


def test_a_large_file_that_is_written_is_copied_each_time(source, root, monkeypatch):
    monkeypatch.setattr(scratch_module, "LARGE", 4000)
    scratch = Scratch(source, root)
    scratch.prepare()
    (scratch.work / "data" / "big").write_bytes(b"1" * 5000)
    scratch.keep("one")
    scratch.prepare()
    assert (scratch.work / "data" / "big").read_bytes() == b"0" * 5000


def test_what_is_only_read_can_be_linked(source, root):
    scratch = Scratch(source, root, link=(source / "data",))
    scratch.prepare()
    assert (scratch.work / "data").is_symlink()
    assert (scratch.work / "data").samefile(source / "data")
    assert scratch.copied.given == ["data"]


def test_a_folder_that_changes_meanwhile_is_told(source, root):
    scratch = Scratch(source, root)
    scratch.prepare()
    scratch.keep("one")
    (source / "train.py").write_text("print(22)")
    with pytest.raises(CkptdError, match=r"train\.py was changed while"):
        scratch.prepare()


def test_too_little_room_is_told_before_anything_is_copied(source, root, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(CkptdError, match="--link PATH"):
        Scratch(source, root).prepare()
    assert list(root.iterdir()) == []


def test_words_of_the_command_lead_into_the_copy(source, root):
    scratch = Scratch(source, root)
    (source / "env" / "python").write_text("")
    words = [f"{source}/train.py", f"--out={source}/out", "train.py", "../other.py", f"{source}ish", "/data"]
    assert move_words(["env/python", *words], scratch) == [
        f"{source}/env/python", f"{root}/work/train.py", f"--out={root}/work/out", "train.py",
        f"{source.parent}/other.py", f"{source}ish", "/data",
    ]  # fmt: skip
    assert move_words(["./run.sh"], scratch) == ["./run.sh"]
    assert move_words([f"{source}/run.sh"], scratch) == [f"{root}/work/run.sh"]
    assert move_words(["python", "x"], scratch) == ["python", "x"]

"""Files and stdout compared: a byte counts, what plain runs don't share is left out, times are told apart."""

from __future__ import annotations

import pytest

from ckptd.prove import outputs
from ckptd.prove.outputs import LeftOut, Output, Unlike


@pytest.fixture
def made(tmp_path):
    def make(name, stdout, **files):
        folder = tmp_path / name
        folder.mkdir()
        for file, data in files.items():
            (folder / file).write_bytes(data)
        (tmp_path / f"{name}.stdout").write_bytes(stdout)
        return Output(tmp_path / f"{name}.stdout", folder, list(files))

    return make


def test_a_byte_is_a_difference(made):
    plain = made("plain", b"a\nb\n", model=b"\0\1\2", log=b"1\n2\n")
    assert outputs.compare(plain, made("same", b"a\nb\n", model=b"\0\1\2", log=b"1\n2\n"), LeftOut()) == []
    other = made("other", b"a\nc\n", model=b"\0\1\3", log=b"1\n")
    assert outputs.compare(plain, other, LeftOut()) == [
        Unlike("stdout", "line 2", "b", "c"),
        Unlike("log", "line 2", "2", "nothing"),
        Unlike("model", "byte 2", "3 bytes", "3 bytes"),
    ]


def test_a_file_that_only_one_run_wrote(made):
    plain, other = made("plain", b"", a=b"1"), made("other", b"", b=b"1")
    assert outputs.compare(plain, other, LeftOut()) == [
        Unlike("a", "", "there", "not there"),
        Unlike("b", "", "not there", "there"),
    ]


def test_what_plain_runs_do_not_share_is_left_out(made):
    one = made("one", b"pid 12\nloss 1\n", run_77=b"x", blob=b"\0\1", log=b"1 a\n2\n")
    two = made("two", b"pid 13\nloss 1\n", run_88=b"x", blob=b"\0\2", log=b"1 b\n2\n")
    found, left_out = outputs.compare_plain(one, two)
    assert len(found) == 5
    assert (left_out.names, left_out.patterns) == ({"blob"}, {"run_#"})
    assert left_out.lines == {"stdout": {0}, "log": {0}}
    same = made("same", b"pid 99\nloss 1\n", run_5=b"y", blob=b"\0\3", log=b"1 c\n2\n")
    assert outputs.compare(one, same, left_out) == []
    other = made("other", b"pid 99\nloss 2\n", log=b"1 c\n3\n", blob=b"\0\3")
    assert [(each.name, each.where) for each in outputs.compare(one, other, left_out)] == [
        ("stdout", "line 2"),
        ("log", "line 2"),
    ]


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        (b"step 3 0.12 s", b"step 3 14.5 s"), (b"12.5it/s", b"3.1it/s"), (b"took 0:12", b"took 1:02"),
        (b"[2026-01-01 10:00:00,123] go", b"[2026-01-02 11:30:10,001] go"), (b"512 samples/s", b"9 samples/s"),
        (b"3 ms/step", b"4.25 ms/step"), (b"1 min 3 sec", b"2 min 4 sec"),
    ],
)  # fmt: skip
def test_lines_that_differ_in_times_only_are_counted_and_no_difference(made, plain, other):
    left_out = LeftOut()
    one, two = made("one", plain + b"\n"), made("two", other + b"\n")
    assert outputs.compare(one, two, left_out) == []
    assert left_out.clocks == {"stdout": 1}


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        (b"loss 0.12 1 s", b"loss 0.13 1 s"), (b"epoch 3", b"epoch 4"), (b"3 steps", b"4 steps"),
        (b"acc 91.2%", b"acc 91.3%"), (b"1e-3", b"1e-4"), (b"3 samples", b"4 samples"), (b"2 sm", b"3 sm"),
    ],
)  # fmt: skip
def test_other_numbers_are_no_times(made, plain, other):
    one, two = made("one", plain + b"\n"), made("two", other + b"\n")
    assert len(outputs.compare(one, two, LeftOut())) == 1

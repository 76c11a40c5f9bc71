import pytest

from ckptd.daemon.names import identify, place_key, short_name
from ckptd.errors import UsageError


def test_a_command_in_a_folder_is_one_job():
    one = identify(["python", "train.py"], "/a", "")
    assert one == identify(["python", "train.py"], "/a", "")
    assert one.id != identify(["python", "train.py", "--lr=1"], "/a", "").id
    assert one.id != identify(["python", "train.py"], "/b", "").id
    assert one.id != identify(["python train.py"], "/a", "").id
    assert not one.named


def test_a_name_is_a_job_whatever_the_command():
    assert identify(["a"], "/a", "mine") == identify(["b"], "/b", "mine")


@pytest.mark.parametrize("name", ["a/b", "-a", "a b", "\N{SNOWMAN}", "a" * 65, "a\n"])
def test_what_is_no_name(name):
    with pytest.raises(UsageError, match="--name"):
        identify(["a"], "/a", name)


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["python", "-u", "dir/train.py", "x"], "train"), (["python3.11", "-m", "pkg.mod"], "pkg.mod"),
        (["./run.sh"], "run.sh"), (["python", "-c", "print(1)"], "python"), (["/bin/\N{SNOWMAN}"], "job"),
    ],
)  # fmt: skip
def test_short_names(argv, word):
    assert short_name(argv) == word


def test_arguments_need_not_be_utf8(tmp_path):
    assert len(identify(["a", "\udcff"], "/a", "").id) == 8


def test_two_stores_two_places(tmp_path):
    assert place_key("0" * 8, tmp_path / "a") != place_key("0" * 8, tmp_path / "b")

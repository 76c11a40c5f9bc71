import os
import subprocess
import sys

import pytest

from ckptd.daemon import launch
from ckptd.errors import CommandNotFoundError, CommandUnusableError
from ckptd.settings import Settings


def attempt(tmp_path, **fields):
    return launch.Attempt(
        job="0123abcd",
        number=2,
        endpoint="ipc:///x",
        segments=tmp_path,
        hashseed=fields.pop("hashseed", "7"),
        **fields,
    )


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["train.py"], ""), (["-u", "train.py", "-I"], ""), (["-m", "pkg", "-S"], ""),
        (["-Wignore", "t.py"], ""),
        (["-X", "dev", "-W", "E", "t.py"], ""), (["-mpkg.E"], ""), (["-P", "-s", "t.py"], ""),
        (["--check-hash-based-pycs", "always", "t.py"], ""),
        (["-I", "t.py"], "python -I"), (["-uE", "t.py"], "python -E"), (["-S", "-m", "pkg"], "python -S"),
        (["-c", "pass"], "with -c"), (["-uc", "pass"], "with -c"),
        (["-"], "on stdin"), (["-u"], "from stdin"),
    ],
)  # fmt: skip
def test_reach_by_flags(args, word):
    found = launch.reach(sys.executable, [sys.executable, *args])
    assert found.reachable == (word == "")
    assert word in found.why


def test_what_the_interpreter_does_agrees(tmp_path):
    """The flags that are said to shut the agent out do; the others don't."""
    (tmp_path / "sitecustomize.py").write_text("print('in')")
    script = tmp_path / "train.py"
    script.write_text("")
    for flags in (["-I"], ["-E"], ["-S"], ["-uS"], ["-P"], ["-s"], ["-X", "dev"], ["-W", "E"]):
        if flags == ["-P"] and sys.version_info < (3, 11):
            continue
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, *flags, script], env=env, capture_output=True, text=True, check=True
        )
        assert launch.reach(sys.executable, [sys.executable, *flags, str(script)]).reachable == (
            "in" in done.stdout
        )


def test_environment_extends_pythonpath(tmp_path):
    def path(before):
        env = {} if before is None else {"PYTHONPATH": before}
        return launch.environment(env, attempt(tmp_path), Settings())["PYTHONPATH"]

    ours = path(None)
    assert os.path.isfile(os.path.join(ours, "sitecustomize.py"))
    assert path("") == ours
    assert path("/a:/b") == f"{ours}:/a:/b"
    assert path(f"/a:{ours}:/b") == f"{ours}:/a:/b"
    assert path(":/a") == f"{ours}::/a"


def test_environment(tmp_path):
    base = {"CKPTD_RESUME": "/old", "CKPTD_CLAIMED": "1", "CKPTD_ALLOW_CHANGED": "1", "MINE": "x"}
    env = launch.environment(base, attempt(tmp_path), Settings(grace=1.5, notice_signals=(15, 12)))
    assert base["CKPTD_RESUME"] == "/old"
    assert not {"CKPTD_RESUME", "CKPTD_CLAIMED", "CKPTD_ALLOW_CHANGED"} & set(env)
    assert (env["CKPTD_GRACE"], env["CKPTD_NOTICE_SIGNALS"], env["CKPTD_ATTEMPT"]) == (
        "1.5",
        "TERM,USR2",
        "2",
    )
    assert env["PYTHONHASHSEED"] == "7"
    assert env["CKPTD_PYTHON"] == f"{sys.prefix}|{sys.version_info[0]}.{sys.version_info[1]}"
    resumed = launch.environment(
        {"PYTHONHASHSEED": "1"}, attempt(tmp_path, hashseed="", resume=tmp_path), Settings(allow_changed=True)
    )
    assert resumed["CKPTD_RESUME"] == str(tmp_path)
    assert resumed["CKPTD_ALLOW_CHANGED"] == "1"
    assert resumed["PYTHONHASHSEED"] == "1"


def test_resolve(tmp_path):
    assert launch.resolve(["sh"]).endswith("/sh")
    with pytest.raises(CommandNotFoundError, match="no-such"):
        launch.resolve(["no-such"])
    (tmp_path / "plain").write_text("x")
    for path in (tmp_path / "plain", tmp_path):
        with pytest.raises(CommandUnusableError, match=str(path)):
            launch.resolve([str(path)])

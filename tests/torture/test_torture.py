"""Some rounds of what scripts/torture does a thousand times: see benchmarks/results/torture-*.json."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from faults import fileops

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize(("what", "rounds"), [("store", 50), ("pair", 15), ("upload", 15)])
def test_a_process_killed_at_any_moment_leaves_whole_checkpoints(
    seeded: random.Random, tmp_path: Path, what: str, rounds: int
) -> None:
    seed = seeded.randrange(10**6)
    ended = subprocess.run(
        [sys.executable, "-m", "torture", what, "--rounds", str(rounds), "--seed", str(seed)],
        env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert f"seed {seed}: {rounds} rounds, " in ended.stdout
    if rounds >= 50:
        assert "half written" in ended.stdout, "no kill hit a write"
    if fileops.compiler():
        assert f"{rounds} rounds, 0 killed at a change" not in ended.stdout


def test_what_is_not_right_is_found(tmp_path: Path) -> None:
    """The judge itself: a tensor lost, a promise broken, a file left behind."""
    from torture.judge import BrokenError, Promises, check, check_nothing_left
    from torture.work import Setting, Work

    setting = Setting(tmp_path / "store", tmp_path / "other", tmp_path / "shm")
    setting.shm.mkdir()
    said: list[str] = []
    work = Work(setting, random.Random(1), said.append)
    work.commit()
    work.close()
    promises = Promises().after(said)
    assert [f"committed {name}" for name in check(setting, promises)] == said
    with pytest.raises(BrokenError, match="was committed and is gone"):
        check(setting, promises.after(["committed 000000000009-00000009"]))
    with pytest.raises(BrokenError, match="pinned, and gone"):
        check(setting, promises.after(["pinned 000000000009-00000009"]))
    (path,) = setting.folder.checkpoints.iterdir()
    (path / "odd").touch()
    with pytest.raises(BrokenError, match="odd"):
        check_nothing_left(setting)
    (path / "odd").unlink()
    check_nothing_left(setting)
    # The same bytes under another step: right by all hashes, and yet not what was in memory.
    import torture.judge

    other = pytest.MonkeyPatch()
    other.setattr(torture.judge, "graph", lambda step: b"")
    try:
        with pytest.raises(BrokenError, match="another graph"):
            check(setting, promises)
    finally:
        other.undo()

"""The benchmarks of a state, small: they measure what they say, and leave nothing behind, interrupted or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import psutil
import pytest

from benchmarks import figures, resume
from benchmarks.figures import Figure
from benchmarks.options import parse_size
from benchmarks.stall import Steps, train

ROOT = Path(__file__).resolve().parents[2]
SIZE = 4 << 20
WORDS = ("stood_still", "safe", "durable")
DEADLINE = 120.0


def start(name: str, folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--size", "4M", "--tensors", "20"]
    return subprocess.Popen(
        [*command, "--no-keep", "--folder", str(folder), *words], cwd=ROOT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def processes(folder: Path) -> list[psutil.Process]:
    """Those that work below a folder."""
    found = []
    for each in psutil.process_iter():
        try:
            if Path(each.cwd()).is_relative_to(folder):
                found.append(each)
        except psutil.Error:
            continue
    return found


def segments(process: psutil.Process) -> Path | None:
    try:
        named = process.environ().get("CKPTD_SEGMENTS")
    except psutil.Error:
        return None
    return Path(named) if named else None


def first_segments(bench: subprocess.Popen[str], folder: Path) -> Path:
    """Where the first program that the bench starts has its segments; ends the bench if there comes none."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until and bench.poll() is None:
        for path in filter(None, map(segments, processes(folder))):
            if path.is_dir():
                return path
        time.sleep(0.02)
    bench.terminate()
    pytest.fail(f"no program under ckptd: {bench.communicate(timeout=DEADLINE)[1]}")


@pytest.mark.nightly
def test_dump_sets_real_times_side_by_side(tmp_path: Path) -> None:
    began = time.monotonic()
    out, err = start("dump", tmp_path, "--repeat", "2", "--many", "0", "--at-once", "--json").communicate(
        timeout=DEADLINE
    )
    took = time.monotonic() - began
    result = json.loads(out or err)
    seconds = result["seconds"]
    assert {len(values) for values in seconds.values()} == {2}
    assert all(value > 0 for values in seconds.values() for value in values)
    assert sum(map(sum, seconds.values())) < took
    for stood, safe, durable in zip(*(seconds[f"ckptd_{word}"] for word in WORDS), strict=True):
        assert stood < safe < durable
    saved = next(each for each in result["figures"] if each["beside"] == "torch.save + fsync")
    pairs = zip(seconds["ckptd_durable"], seconds["torch_save"], strict=True)
    assert saved["ratio"][1] == pytest.approx(median(a / b for a, b in pairs))
    assert saved["holds"] == (saved["ratio"][1] <= 0.6)
    assert result["size"] == SIZE
    assert result["machine"]["file_system"]
    assert not list(tmp_path.iterdir())
    assert not processes(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bench_leaves_nothing(tmp_path: Path, number: int) -> None:
    bench = start("scale", tmp_path)
    memory = first_segments(bench, tmp_path)
    bench.send_signal(number)
    _, err = bench.communicate(timeout=DEADLINE)
    assert bench.returncode == 1
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
    assert not processes(tmp_path)
    assert not memory.exists()


@pytest.mark.nightly
def test_stall_finds_the_longest_step_and_the_paces(tmp_path: Path) -> None:
    found = train(tmp_path, SIZE, 20, 3.0, changed=1, threads=1)
    assert 0 < found["blocked"] < 3
    assert 0 < found["first_blocked"] < 3
    assert found["pace_quiet"] > 1
    assert found["pace_draining"] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.nightly
def test_resume_starts_again_three_times(tmp_path: Path) -> None:
    found = resume.relaunch(tmp_path, SIZE, 20)
    assert 0 < found["replay"] < found["relaunch"] < found["down"]
    assert found["cold"] > 0
    assert found["cached"] > 0
    assert not list(tmp_path.iterdir())


def test_steps() -> None:
    ends = [n / 10 for n in range(21)] + [2.5 + n / 10 for n in range(10)]  # one step takes 0.5 s
    steps = Steps(ends)
    much, until = steps.stalled(2.1, 2.4)
    assert much == pytest.approx(0.4)
    assert until == 2.5
    assert steps.pace(0.55, 1.75) == pytest.approx(10)
    assert steps.pace(2.0, 2.5) == pytest.approx(2)


def test_figures() -> None:
    ours, theirs = [3.0, 1.0, 2.0], [1.0, 1.0, 4.0]
    told = Figure("a", ours, "b", theirs, 1.0).describe()
    assert told["ratio"][1] == median([3.0, 1.0, 0.5]) == 1.0
    assert told["holds"]
    assert not Figure("a", ours, "b", theirs, 0.99).describe()["holds"]
    assert not Figure("a", ours, bound=2.5, most=False).describe()["holds"]
    assert "bound" not in Figure("a", ours).describe()
    assert figures.spread([7.0]) == [7.0, 7.0, 7.0]
    assert figures.quicker({"a": [1, 2, 9], "b": [3, 3, 3]}, "a", "b") == "a"


def test_sizes() -> None:
    assert [parse_size(text) for text in ("512", "64K", "64M", "1.5g", "1GB")] == [
        512, 64 << 10, 64 << 20, 3 << 29, 1 << 30,
    ]  # fmt: skip
    for text in ("", "x", "0", "-1M", "1T"):
        with pytest.raises(ValueError, match="is no size"):
            parse_size(text)

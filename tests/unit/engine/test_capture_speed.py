"""Capture of plain data keeps pace with pickle, and grows with the data, not with its square."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

plain = importlib.import_module("plain")
SIZE = 50_000
RATIO = 8
"""More than is promised: other processes take their part of the caches, and the data are small."""
GROWTH = 25
"""For 10 times the data; 10 is linear, 100 the square."""
TRIES = 4


@pytest.fixture(autouse=True)
def _segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPTD_SEGMENTS", str(tmp_path))


@pytest.mark.parametrize(
    "name",
    ["replay_floats", "replay_arrays", "replay_dicts", "arrays_in_dict", "nested", "floats", "strings"],
)
def test_capture_keeps_pace_with_pickle(name: str) -> None:
    data = plain.SETS[name](SIZE)
    assert any(plain.measure(data, 1)["capture_ratio"] <= RATIO for _ in range(TRIES))


@pytest.mark.parametrize("name", ["replay_floats", "ragged"])
def test_ten_times_the_data_takes_about_ten_times_as_long(name: str) -> None:
    small, large = (plain.SETS[name](size) for size in (SIZE // 5, SIZE * 2))

    def is_linear() -> bool:
        one, ten = plain.measure(small, 3), plain.measure(large, 1)
        return all(ten[what] <= GROWTH * one[what] for what in ("capture", "restore"))

    assert any(is_linear() for _ in range(TRIES))


def test_what_comes_back_is_what_was_there() -> None:
    for name in ("replay_floats", "replay_dicts", "nested", "ragged", "mixed", "counts"):
        data = plain.SETS[name](3000)
        assert plain.restore(plain.capture(data)) == data

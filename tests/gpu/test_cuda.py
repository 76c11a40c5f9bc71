"""CUDA programs under ckptd. Skipped where there is no device; what they gave on one is kept in benchmarks/results/."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness import Action, Line, compare, leftovers, run_ckptd, run_plain

PROGRAMS = Path(__file__).resolve().parents[1] / "programs_gpu"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


@pytest.mark.parametrize("name", sorted(path.stem for path in PROGRAMS.glob("*.py")))
def test_a_cuda_program_goes_on_as_if_left_alone(name: str, tmp_path: Path) -> None:
    command = [PROGRAMS / f"{name}.py"]
    plain, again = run_plain(command, tmp_path / "plain"), run_plain(command, tmp_path / "again")
    assert plain.status == 0, plain.stderr.decode()
    assert compare(plain, again) == []
    store = tmp_path / "store"
    under = run_ckptd(
        command,
        tmp_path / "under",
        store=store,
        actions=[Action(Line("^step 1 3 ")), Action(Line("^step 2 5 "))],
        deadline=240,
    )
    assert compare(plain, under) == [], under.stderr.decode()
    assert len(under.processes) == 3, under.stderr.decode()
    assert leftovers(store) == []

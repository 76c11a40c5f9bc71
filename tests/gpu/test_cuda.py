"""CUDA programs under ckptd. Skipped where there is no device; what they gave on one is kept in benchmarks/results/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ckptd.memory.room import Room
from ckptd.memory.segment import Segment, Tensor
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


def test_what_has_not_changed_on_the_device_is_not_brought_over_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckptd_agent import copying, drain, rooms
    from ckptd_agent.graph.capture import Capture

    monkeypatch.setenv("CKPTD_SEGMENTS", str(tmp_path))
    copied: list[str] = []
    copy = copying._copy_odd

    def noted(obj: Any, tensor: Tensor, room: Room) -> None:
        copied.append(tensor.name)
        copy(obj, tensor, room)

    monkeypatch.setattr(copying, "_copy_odd", noted)
    frozen, trained = torch.randn(1 << 20, device="cuda"), torch.randn(1 << 18, device="cuda")
    for number, expected in enumerate((2, 0, 1, 1)):
        if number == 2:
            trained.add_(1)
        elif number == 3:
            frozen.data[7] += 1  # which moves no version counter
        capture = Capture()
        capture.child([frozen, trained])
        capture.run()
        copied.clear()
        path = drain.drain(capture, b"graph", {}, str(number))
        assert len(copied) == expected
        with Segment(path) as segment:
            held = {bytes(segment.data()[t.offset : t.offset + t.nbytes]) for t in segment.index.tensors}
        assert held == {each.cpu().numpy().tobytes() for each in (frozen, trained)}
        rooms.answered(str(number))

"""CUDA programs under ckptd. Skipped where there is no device; what they gave on one is kept in benchmarks/results/."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from ckptd.memory.segment import Segment
from harness import Action, Line, compare, leftovers, run_ckptd, run_plain, unrepeated

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


def test_periodic_checkpoints_are_brought_over_behind_training(tmp_path: Path) -> None:
    command = [PROGRAMS / "amp.py"]
    plain = run_plain(command, tmp_path / "plain")
    store = tmp_path / "store"
    under = run_ckptd(
        command, tmp_path / "under", store=store, options=["--every", "3steps"],
        actions=[Action(Line("^step 2 5 "), signal=signal.SIGKILL)], deadline=240,
    )  # fmt: skip
    once = unrepeated(plain.stdout, under.stdout, 1)
    assert compare(plain, under.saying(once)) == [], under.stderr.decode()
    assert len(under.processes) == 2, under.stderr.decode()


@pytest.fixture
def tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    monkeypatch.setenv("CKPTD_SEGMENTS", str(tmp_path))
    return [torch.randn(1 << 20, device="cuda"), torch.randn(1 << 18, device="cuda")]


def captured(tensors: list[torch.Tensor]) -> Any:
    from ckptd_agent.graph.capture import Capture

    capture = Capture()
    capture.child(tensors)
    capture.run()
    return capture


def holds(path: Path, expected: set[bytes]) -> bool:
    with Segment(path) as segment:
        held = {bytes(segment.data()[t.offset : t.offset + t.nbytes]) for t in segment.index.tensors}
    return held == expected


def contents(tensors: list[torch.Tensor]) -> set[bytes]:
    return {each.cpu().numpy().tobytes() for each in tensors}


def late(tensors: list[torch.Tensor]) -> set[bytes]:
    """Give a side stream something to do that is not done yet; what the tensors hold when it is."""
    torch.cuda.synchronize()
    expected = contents([tensors[0] + 1, tensors[1]])
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)  # type: ignore[no-untyped-call]  # cycles: a tenth of a second
        tensors[0].add_(1)
    return expected


def test_what_changes_behind_a_dump_is_not_in_it(tensors: list[torch.Tensor]) -> None:
    from ckptd_agent import drain, rooms
    from ckptd_agent.device import behind

    before = torch.cuda.memory_stats()
    for number in range(5):
        expected = late(tensors)
        came: list[tuple[Any, ...]] = []
        path = drain.drain_behind(
            captured(tensors), b"graph", {}, str(number), lambda *answer, came=came: came.append(answer)
        )
        for each in tensors:
            each.add_(1)
        behind.wait()
        assert path is None
        (answer,) = came
        assert holds(answer[1], expected), answer
        rooms.answered(str(number))
    after = torch.cuda.memory_stats()
    assert after["allocation.all.current"] == before["allocation.all.current"]


def test_what_a_side_stream_has_still_to_do_is_waited_for(tensors: list[torch.Tensor]) -> None:
    from ckptd_agent import drain, rooms

    for number in range(3):
        expected = late(tensors)
        assert holds(drain.drain(captured(tensors), b"graph", {}, str(number)), expected)
        rooms.answered(str(number))


def test_what_has_not_changed_on_the_device_is_not_brought_over_again(
    tensors: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckptd_agent import drain, rooms
    from ckptd_agent.device import fetching
    from ckptd_agent.state import digesting

    copied: list[fetching.Piece] = []
    fetch = fetching.fetch

    def noted(pieces: Any, room: Any, came: Any) -> None:
        copied.extend(pieces)
        fetch(pieces, room, came)

    monkeypatch.setattr(fetching, "fetch", noted)
    monkeypatch.setattr(digesting, "fits", lambda devices: True)
    frozen, trained = tensors
    for number, expected in enumerate((2, 0, 1, 1)):
        if number == 2:
            trained.add_(1)
        elif number == 3:
            frozen.data[7] += 1  # which moves no version counter
        copied.clear()
        path = drain.drain(captured(tensors), b"graph", {}, str(number))
        assert len(copied) == expected
        assert holds(path, contents(tensors))
        rooms.answered(str(number))

"""What lies on CUDA devices: set aside there, brought over behind training. The driver is a stand-in (fakes.cuda)."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.cuda import Cuda, build, compiler

from ckptd.memory.room import Room
from ckptd.memory.segment import REGION, Segment, SegmentWriter, Tensor
from ckptd_agent import copying, drain, rooms, threads
from ckptd_agent.device import active, behind, clones, driver, pinning
from ckptd_agent.device.clones import MARGIN, Far
from ckptd_agent.device.driver import Device, DeviceError
from ckptd_agent.graph.capture import Capture
from ckptd_agent.state import digesting

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler")
finished: list[int] = []
"""Devices whose streams were waited for."""
SIZES = [REGION + 12345, 3 * REGION, 7, 4096, 65537, *range(100, 140), 1 << 20]
"""Bytes of the tensors on devices."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def cuda(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    monkeypatch.setattr(driver, "LIBRARY", str(library))
    monkeypatch.setattr(driver, "_calls", {})
    monkeypatch.setattr(drain, "_aside", True)
    monkeypatch.setattr(pinning, "_over", False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: finished.append(device))
    monkeypatch.setattr(clones, "to_come", lambda device: 0)
    monkeypatch.setattr(digesting, "fits", lambda devices: True)
    monkeypatch.setenv("CKPTD_SEGMENTS", str(tmp_path))
    for room in (*rooms._free, *rooms._lent.values()):
        room.close()
    monkeypatch.setattr(rooms, "_free", [])
    monkeypatch.setattr(rooms, "_lent", {})
    cuda = Cuda(library)
    cuda.reset()
    cuda.use(0, 1)
    finished.clear()
    yield cuda
    assert behind.wait(30)
    assert (cuda.used, cuda.open, cuda.current, cuda.mode) == (0, 0, None, 0)
    for room in (*rooms._free, *rooms._lent.values()):
        room.close()
    assert cuda.pinned == 0
    cuda.forget()


class State:
    """What a program holds: some of it on two "devices", some here."""

    def __init__(self, cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
        draw = torch.Generator().manual_seed(3)
        self.far = [torch.randint(0, 256, (n,), dtype=torch.uint8, generator=draw) for n in SIZES]
        self.here = [torch.randn(1 << 16, generator=draw), torch.randn(1 << 20, generator=draw)]
        self._devices = {each.data_ptr(): int(number > 1) for number, each in enumerate(self.far)}
        for each in self.far:
            cuda.give(self._devices[each.data_ptr()], each.data_ptr(), each.nbytes)
        monkeypatch.setattr(copying, "_far", self._find)

    def _find(self, capture: Capture, tensor: Tensor) -> Far | None:
        obj = capture.storages[tensor.name]
        device = self._devices.get(obj.data_ptr()) if isinstance(obj, torch.UntypedStorage) else None
        return None if device is None else Far(device, obj.data_ptr(), tensor)

    def capture(self) -> Capture:
        found = Capture()
        found.child([*self.far, *self.here])
        found.run()
        return found

    def bytes(self) -> list[bytes]:
        return sorted(each.numpy().tobytes() for each in (*self.far, *self.here))

    def change(self) -> None:
        """As training does."""
        for each in (*self.far, *self.here):
            each.add_(1)


@pytest.fixture
def state(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> State:
    return State(cuda, monkeypatch)


class Answer:
    """What a dump's end is told to."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.path: Path | None = None
        self.error: Exception | None = None

    def __call__(self, went_on: float, path: Path | None, error: Exception | None) -> None:
        self.path, self.error = path, error
        self.came.set()


def held(path: Path) -> list[bytes]:
    with Segment(path) as segment:
        return sorted(bytes(segment.data()[t.offset : t.offset + t.nbytes]) for t in segment.index.tensors)


def dump_behind(state: State, name: str) -> Path:
    """Dump, change everything at once, and wait: what is in the segment must be what was there before."""
    before, answer = state.bytes(), Answer()
    assert drain.drain_behind(state.capture(), b"graph", {}, name, answer) is None
    state.change()
    assert answer.came.wait(30)
    assert answer.path is not None, answer.error
    assert held(answer.path) == before
    return answer.path


def test_training_goes_on_while_the_copy_is_brought_over(cuda: Cuda, state: State):
    cuda.reset(pause=0.02)  # training has long changed everything when the first piece is brought over
    dump_behind(state, "1")
    assert cuda.cloned == len(SIZES)
    assert 0 < cuda.fetched < len(SIZES)  # what lies side by side came in one piece


def test_one_dump_after_the_other_goes_into_the_same_room(cuda: Cuda, state: State):
    paths = set()
    for number in range(4):
        paths.add(dump_behind(state, str(number)))
        behind.wait()
        rooms.answered(str(number))
    assert len(paths) == 1


def test_a_dump_waits_for_the_one_before(cuda: Cuda, state: State):
    cuda.reset(pause=0.01)
    first, second = Answer(), Answer()
    drain.drain_behind(state.capture(), b"graph", {}, "1", first)
    assert not first.came.is_set()
    assert not behind.wait(0.001)
    behind.wait()
    assert first.came.is_set()
    before = state.bytes()
    drain.drain_behind(state.capture(), b"graph", {}, "2", second)
    behind.wait()
    assert second.path != first.path
    assert second.path is not None
    assert held(second.path) == before


def test_without_room_on_the_device_training_waits(cuda: Cuda, state: State):
    cuda.reset(MARGIN + sum(SIZES) // 4)
    before, answer = state.bytes(), Answer()
    path = drain.drain_behind(state.capture(), b"graph", {}, "1", answer)
    assert path is not None
    assert held(path) == before
    assert cuda.cloned == 0
    assert not answer.came.is_set()


def test_what_has_not_changed_is_not_brought_over_again(cuda: Cuda, state: State):
    drain.drain(state.capture(), b"graph", {}, "1")
    rooms.answered("1")
    count = cuda.fetched
    assert count >= len(SIZES)
    state.far[3].add_(1)
    before = state.bytes()
    path = drain.drain(state.capture(), b"graph", {}, "2")
    assert cuda.fetched == count + 1
    assert held(path) == before


def test_who_reads_along_sees_what_came_from_the_device(cuda: Cuda, state: State):
    """Regions are told one by one while a job is to leave: the disk begins with them."""
    seen: list[tuple[int, int]] = []
    arrived = SegmentWriter.arrived

    def noted(self: Any, region: int) -> None:
        seen.append((region, cuda.fetched))
        arrived(self, region)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentWriter, "arrived", noted)
        path = drain.drain(state.capture(), b"graph", {}, "1", lambda _: None)
    with Segment(path) as segment:
        assert segment.has(0, segment.data_nbytes)
    assert sorted({region for region, _ in seen}) == list(range(segment.index.regions))


@pytest.mark.parametrize("behind_training", [True, False])
def test_a_device_that_fails_costs_a_dump_at_most(cuda: Cuda, state: State, behind_training: bool):
    answer = Answer()
    if behind_training:
        cuda.fail_in(len(SIZES) + 2)
        drain.drain_behind(state.capture(), b"graph", {}, "1", answer)
        assert answer.came.wait(30)
        assert answer.path is None
        assert isinstance(answer.error, DeviceError)
        behind.wait()
        before = state.bytes()
        path = drain.drain_behind(state.capture(), b"graph", {}, "2", answer)
    else:
        cuda.fail_in(2)
        before = state.bytes()
        path = drain.drain(state.capture(), b"graph", {}, "1")  # torch copies what the driver did not
    assert path is not None
    assert held(path) == before


def test_without_a_driver_torch_copies(state: State, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driver, "LIBRARY", "libcuda-that-is-not-there.so")
    monkeypatch.setattr(driver, "_calls", {})
    before = state.bytes()
    path = drain.drain_behind(state.capture(), b"graph", {}, "1", Answer())
    assert path is not None
    assert held(path) == before


def test_a_room_is_locked_ahead_and_let_go_before_it_moves(cuda: Cuda, state: State, tmp_path: Path):
    rooms.give_back(Room(tmp_path / "ahead.seg"))
    size = 2 * pinning.PIECE + 5
    while rooms._prepare_more(size):
        pass
    while rooms._pin_more():
        pass
    assert cuda.pinned == 2
    path = dump_behind(state, "1")
    assert path == tmp_path / "ahead.seg"
    assert cuda.fetched_pinned == cuda.fetched > 0
    behind.wait()
    rooms.answered("1")
    rooms._free[-1].grow(size + size // 8)  # there are addresses to spare
    assert cuda.pinned == 2
    rooms._free[-1].grow(64 * size)
    assert cuda.pinned == 0
    assert held(dump_behind(state, "2")) != []


def test_a_device_that_the_program_does_not_use_is_left_alone(
    cuda: Cuda, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cuda.use(1)
    taken: list[int] = []
    begin = Device.__init__

    def noted(self: Device, number: int) -> None:
        taken.append(number)
        begin(self, number)

    monkeypatch.setattr(Device, "__init__", noted)
    room = Room(tmp_path / "a.seg")
    room.grow(pinning.PIECE)
    room.populate(0, room.nbytes)
    room.ready = room.nbytes
    assert pinning.pin(room)
    assert (cuda.pinned, taken) == (1, [1])
    active.finish()
    assert finished == [1]
    room.close()
    assert cuda.pinned == 0


def test_devices_are_waited_for_before_anything_is_read(
    cuda: Cuda, state: State, monkeypatch: pytest.MonkeyPatch
):
    def arrive(device: int) -> None:  # what a side stream had still to do
        if device == 1:
            state.far[1].add_(5)
            state.here[0].add_(5)

    drain.drain(state.capture(), b"graph", {}, "1")
    rooms.answered("1")
    monkeypatch.setattr(torch.cuda, "synchronize", arrive)
    path = drain.drain(state.capture(), b"graph", {}, "2")
    assert held(path) == state.bytes()


def test_what_the_program_will_want_again_is_left_free(
    cuda: Cuda, state: State, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(clones, "to_come", lambda device: 79 << 30)
    assert drain.drain_behind(state.capture(), b"graph", {}, "1", Answer()) is not None
    assert cuda.cloned == 0


def test_where_no_thread_may_start_training_waits(cuda: Cuda, state: State, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: Any) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start", refuse)
    monkeypatch.setattr(copying, "THREADS", 1)
    before, answer = state.bytes(), Answer()
    drain.drain_behind(state.capture(), b"graph", {}, "1", answer)
    assert answer.path is not None
    assert held(answer.path) == before
    assert behind.wait(0)


def test_where_nothing_may_be_locked_it_is_tried_once(cuda: Cuda, tmp_path: Path):
    room = Room(tmp_path / "a.seg")
    room.grow(2 * pinning.PIECE)
    room.populate(0, room.nbytes)
    room.ready = room.nbytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Device, "pin", functools.partialmethod(_refuse))
        assert not pinning.pin(room)
    assert pinning._over
    assert not pinning.pin(room)
    room.close()


def _refuse(self: Device, address: int, nbytes: int) -> None:
    raise DeviceError(2, "cuMemHostRegister_v2 gave error 2")


ENDING = """
import os, sys, time
from ckptd_agent.device import behind
behind.start(lambda: (time.sleep(0.3), os.write(1, b"done\\n")))
if os.fork() == 0:
    began = time.monotonic()
    sys.exit()  # a child waits for nothing
os.wait()
print("ends", flush=True)
"""


def test_the_end_of_the_program_waits_for_what_is_under_way():
    done = subprocess.run(
        [sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60, check=True,
        env={"PYTHONPATH": "agent:."}, cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip
    assert done.stdout == "ends\ndone\n"

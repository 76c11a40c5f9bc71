"""Training events as they are counted, and when somebody is told of them."""

from __future__ import annotations

import builtins
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ckptd_agent import link, safepoint
from ckptd_agent.loops import events, hooks
from ckptd_agent.loops import record as r
from ckptd_agent.source import finder

LOOP = "def train(number, each):\n    for i in range(number):\n        each(i)\n"
NEVER = 1 << 60


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of steps at which the listener was called."""
    numbers: list[int] = []
    builtin = dict(vars(builtins))
    root = list(r.root)
    hooks.install()
    monkeypatch.setattr(events, "listener", numbers.append)
    monkeypatch.setattr(events, "outside", None)
    events.set_steps(0, False)
    yield numbers
    events.set_steps(0, False)
    r.root[:] = root
    for name in vars(builtins).keys() - builtin.keys():
        delattr(builtins, name)


def loop() -> Any:
    """A rewritten loop, as a program would have it."""
    namespace: dict[str, Any] = {}
    exec(finder.compile_user("looping", "looping.py", LOOP.encode()), namespace)
    return namespace["train"]


class Trained:
    """A backward pass and a step, as torch tells of them."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.backward, self.step = events._watch(lambda: None), events._step_watcher()
        self.seconds = seconds
        self.optimizers = [type("Optimizer", (), {})() for _ in range(2)]

    def __call__(self, number: int) -> None:
        time.sleep(self.seconds)
        self.backward()
        for optimizer in self.optimizers:
            self.step(optimizer, (), {})


def test_a_turn_of_the_loop_is_one_step_however_many_optimizers(told: list[int]):
    loop()(50, Trained())
    assert events.steps() == 50


def test_the_step_that_was_asked_for_is_told(told: list[int]):
    events.wake_at(step=33, time=float("inf"))
    loop()(33, Trained())
    assert told == [33]
    events.wake_at(step=40)
    loop()(10, Trained())
    assert told == [33, 40, 41, 42, 43]


def test_without_an_optimizer_backward_passes_are_steps(told: list[int]):
    events.wake_at(step=7, time=float("inf"))
    trained = Trained()
    loop()(7, lambda number: trained.backward())
    assert told == [7]


def test_long_steps_look_at_the_clock_each_time_and_short_ones_now_and_then(told: list[int]):
    events.wake_at(step=NEVER, time=float("inf"))
    loop()(200, Trained())
    assert told == []
    events.wake_at(time=time.monotonic())
    loop()(events.STRIDE, Trained())
    assert told
    told.clear()
    events.wake_at(time=float("inf"))
    loop()(events.STRIDE + 2, Trained(2 * events.QUICK))
    events.wake_at(time=time.monotonic())
    loop()(2, Trained(2 * events.QUICK))
    assert len(told) == 2


def test_a_thread_that_trains_besides_is_noticed(told: list[int], monkeypatch: pytest.MonkeyPatch):
    noticed: list[Any] = []
    train, trained = loop(), Trained()
    train(3, trained)
    monkeypatch.setattr(events, "outside", noticed.append)

    def both(number: int) -> None:
        trained.backward()
        besides = threading.Thread(target=trained.step, args=(trained.optimizers[0], (), {}))
        besides.start()
        besides.join()

    train(2 * events.STRIDE, both)
    assert None in noticed


def test_what_has_no_storage_counts_as_nothing(monkeypatch: pytest.MonkeyPatch):
    embedding = torch.nn.Embedding(100, 8, sparse=True)
    optimizer = torch.optim.SparseAdam(list(embedding.parameters()))
    embedding(torch.tensor([1, 2])).sum().backward()
    optimizer.step()
    monkeypatch.setattr(events, "optimizers", [optimizer])
    assert events.state_bytes() >= 3 * 100 * 8 * 4  # the weights and both means; their gradient is sparse


def test_a_failure_of_ours_is_said_once_and_the_programs_call_goes_on(
    told: list[int], monkeypatch: pytest.MonkeyPatch
):
    sent: list[Any] = []
    monkeypatch.setattr(link, "send", sent.append)

    def fail(steps: int) -> None:
        raise KeyError("a strange optimizer")

    monkeypatch.setattr(events, "listener", safepoint._harmless(fail))
    events.wake_at(step=0)
    loop()(20, Trained())
    assert events.steps() == 20
    (message,) = sent
    assert message.text == "the agent failed to follow the training: KeyError: 'a strange optimizer'"

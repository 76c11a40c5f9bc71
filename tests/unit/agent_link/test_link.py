"""What other threads may ask of the link, before and without a thread."""

from __future__ import annotations

import threading
import time

import pytest

from ckptd.protocol import Progress, Said, Saved, Undumped
from ckptd_agent import link


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> link.State:
    fresh = link.State()
    monkeypatch.setattr(link, "_state", fresh)
    return fresh


def test_messages_wait_in_order(state: link.State) -> None:
    messages = [Said("a"), Progress(1), Undumped("d", "why")]
    for message in messages:
        link.send(message)
    assert list(state.queue) == messages


def test_of_what_there_is_no_room_for_progress_is_dropped_and_then_the_oldest(state: link.State) -> None:
    for number in range(link.ROOM):
        link.send(Said(str(number)))
    link.send(Progress(1))
    assert state.queue[-1] == Said(str(link.ROOM - 1))
    link.send(Said("last"))
    assert (len(state.queue), state.queue[0], state.queue[-1]) == (link.ROOM, Said("1"), Said("last"))


def test_many_threads_may_send(state: link.State) -> None:
    def work() -> None:
        for _ in range(2000):
            link.send(Said("x"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert link.ROOM <= len(state.queue) <= link.ROOM + len(threads)


def test_another_process_s_link_sends_nothing(state: link.State) -> None:
    state.pid = 1
    link.send(Said("x"))
    assert not state.queue


def test_waiting_without_a_supervisor_ends_at_once(state: link.State) -> None:
    began = time.monotonic()
    assert link.wait_saved("d1", began + 60) is None
    assert time.monotonic() - began < 5
    assert link.forsaken() == "d1"
    assert not link.waiting()


def test_waiting_ends_at_its_time(state: link.State) -> None:
    state.up = True
    began = time.monotonic()
    assert link.wait_saved("d1", began + 0.3) is None
    assert 0.3 <= time.monotonic() - began < 5
    assert link.forsaken() == ""


def test_waiting_ends_with_its_own_answer(state: link.State) -> None:
    state.up = True
    state.answers["d0"] = Saved("d0", "c0", 1)

    def answer() -> None:
        while not link.waiting():
            time.sleep(0.001)
        state.answers["d1"] = Saved("d1", "c1", 2)
        state.bell.release()

    thread = threading.Thread(target=answer)
    thread.start()
    assert link.wait_saved("d1", time.monotonic() + 60) == Saved("d1", "c1", 2)
    thread.join()
    assert list(state.answers) == ["d0"]


def test_a_short_loss_does_not_count(state: link.State) -> None:
    assert not link.connected()
    state.up = state.was_up = True
    assert link.connected()
    state.up, state.dropped = False, time.monotonic()
    assert link.connected()
    state.dropped -= link.PATIENCE
    assert not link.connected()


def test_a_thread_that_gave_up_counts_as_no_supervisor(state: link.State) -> None:
    state.was_up, state.dropped, state.over = True, time.monotonic(), True
    assert not link.connected()
    began = time.monotonic()
    link.send(Said("x"))
    link.flush(60)
    assert time.monotonic() - began < 5

"""Many sources, one descriptor: what is new comes through once, and what fails harms nobody else."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from ckptd.notices.event import ADVICE, LEAVE, Notice, Over, Unheard
from ckptd.notices.watch import Watch


class Told:
    """Tells what the test gives it."""

    def __init__(self, name="told"):
        self.name = name
        self.ears: Any = None
        self.ready = threading.Event()

    def watch(self, ears, over):
        self.ears = ears
        self.ready.set()
        over.wait()


class Failing:
    name = "failing"

    def __init__(self, error):
        self.error, self.calls = error, 0

    def watch(self, ears, over):
        self.calls += 1
        if self.error is not None:
            raise self.error


class Deaf:
    """Hangs, whatever happens."""

    name = "deaf"

    def __init__(self):
        self.let_go = threading.Event()

    def watch(self, ears, over):
        self.let_go.wait(30)
        ears.tell(notice())


def notice(**facts):
    return replace(Notice("told", LEAVE, "1", time.monotonic() + 30, "text"), **facts)


@pytest.fixture
def told(listen):
    source = Told()
    listening = listen(source)
    assert source.ready.wait(5)
    return source.ears, listening.watch


def test_what_is_told_makes_it_readable_and_is_read_once(told):
    ears, watch = told
    assert not select.select([watch.fileno()], [], [], 0)[0]
    first, second = notice(), notice(id="2")
    ears.tell(first)
    ears.tell(second)
    assert select.select([watch.fileno()], [], [], 0)[0]
    assert watch.read() == [first, second]
    assert not select.select([watch.fileno()], [], [], 0)[0]
    assert watch.read() == []


@pytest.mark.parametrize(
    ("changed", "comes_through"),
    [
        ({}, False),
        ({"text": "other words"}, False),
        ({"deadline": 31.5}, False),
        ({"deadline": 20.0}, True),
        ({"deadline": 60.0}, True),
        ({"deadline": None}, True),
        ({"kind": ADVICE}, True),
        ({"withdrawn": True}, True),
    ],
)
def test_the_same_is_ignored_and_a_change_comes_through(told, changed, comes_through):
    ears, watch = told
    now = time.monotonic()
    ears.tell(notice(deadline=now + 30))
    if changed.get("deadline") is not None:
        changed = {"deadline": now + changed["deadline"]}
    ears.tell(notice(**{"deadline": now + 30, **changed}))
    assert len(watch.read()) == 1 + comes_through


def test_a_deadline_that_creeps_comes_through_in_the_end(told):
    ears, watch = told
    now = time.monotonic()
    for step in range(4):
        ears.tell(notice(deadline=now + 30 + 1.5 * step))
    assert [round(each.deadline - now) for each in watch.read()] == [30, 33]


def test_a_deadline_that_has_passed_is_told_once(told):
    ears, watch = told
    for _ in range(3):
        ears.tell(notice(deadline=time.monotonic()))
    ears.tell(notice(deadline=time.monotonic() - 100))
    assert len(watch.read()) == 1


def test_what_was_withdrawn_may_come_again_and_what_was_not_told_is_not_withdrawn(told):
    ears, watch = told
    ears.tell(notice(withdrawn=True))
    assert watch.read() == []
    for withdrawn in (False, True, True, False):
        ears.tell(notice(withdrawn=withdrawn))
    assert [each.withdrawn for each in watch.read()] == [False, True, False]


def test_ids_are_each_sources_own(listen):
    one, two = Told("one"), Told("two")
    watch = listen(one, two).watch
    for source in (one, two):
        assert source.ready.wait(5)
        source.ears.tell(notice(source="anything"))
    assert [each.source for each in watch.read()] == ["one", "two"]


@pytest.mark.parametrize("bad", [None, "leave", {"kind": "explode"}, {"deadline": "soon"}, {"id": 3}])
def test_what_is_no_notice_is_refused(told, bad):
    ears, watch = told
    with pytest.raises(ValueError, match="is no"):
        ears.tell(notice(**bad) if isinstance(bad, dict) else bad)
    assert watch.read() == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (KeyError(), "KeyError"),
        (SystemExit(1), "SystemExit: 1"),
        (Unheard("a sentence"), "a sentence"),
        (None, "stopped listening by itself"),
        (ValueError("x" * 1000), "ValueError: xxx"),
    ],
)
def test_a_source_that_fails_is_called_again_and_its_health_says_so(listen, error, said, await_that):
    failing, well = Failing(error), Told()
    listening = listen(failing, well)
    assert listening.fares("failing", "trouble").text.startswith(said)
    assert len(listening.health("failing").text) <= 300
    begun = time.monotonic()
    well.ears.tell(notice())
    assert listening.next().source == "told"
    assert time.monotonic() - begun < 0.9


def test_it_is_called_again_within_a_second(listen, await_that):
    failing = Failing(OSError("gone"))
    listen(failing)
    begun = time.monotonic()
    await_that(lambda: failing.calls >= 2)
    assert time.monotonic() - begun <= 1.3


def test_health_goes_from_starting_to_ok_to_trouble_and_keeps_the_last_answer(told):
    ears, watch = told
    assert [(each.state, each.answered) for each in watch.health()] == [("starting", None)]
    ears.well()
    answered = watch.health()[0].answered
    assert answered == pytest.approx(time.time(), abs=3)
    ears.trouble("it broke")
    health = watch.health()[0]
    assert (health.state, health.text, health.answered) == ("trouble", "it broke", answered)


def test_sources_of_one_name_fare_as_the_worst_of_them(listen):
    one, two = Told("same"), Told("same")
    listening = listen(one, two)
    assert one.ready.wait(5)
    assert two.ready.wait(5)
    one.ears.well()
    assert [each.state for each in listening.watch.health()] == ["starting"]
    two.ears.trouble("it broke")
    assert [(each.state, each.text) for each in listening.watch.health()] == [("trouble", "it broke")]


def test_signals_never_arrive_in_a_sources_thread(listen):
    masks = []

    class Masked(Told):
        def watch(self, ears, over):
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
            super().watch(ears, over)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    source = Masked()
    listen(source)
    assert source.ready.wait(5)
    assert {signal.SIGTERM, signal.SIGUSR2, signal.SIGCHLD, signal.SIGINT} <= masks[0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_closing_is_bounded_and_what_hangs_can_do_no_harm_afterwards():
    deaf = Deaf()
    watch = Watch([deaf, Told()])
    begun = time.monotonic()
    watch.close(0.3)
    assert time.monotonic() - begun < 2
    mine, other = os.pipe()  # very likely the numbers of the pipe that was closed
    try:
        deaf.let_go.set()
        for thread in watch._threads:
            thread.join(5)
        assert not select.select([mine], [], [], 0)[0]
        assert watch.read() == []
        watch.close()
    finally:
        os.close(mine)
        os.close(other)


def test_closing_leaves_no_descriptor_and_no_thread():
    before = (len(os.listdir("/proc/self/fd")), threading.active_count())
    for _ in range(5):
        Watch([Told(), Failing(OSError())]).close()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_no_source_at_all_is_fine(listen):
    watch = listen().watch
    assert (watch.read(), watch.health()) == ([], [])


def test_notices_that_nobody_reads_block_no_source(told):
    ears, watch = told
    room = fcntl.fcntl(watch._in, fcntl.F_SETPIPE_SZ, 4096)
    for number in range(room + 100):
        ears.tell(notice(id=str(number)))
    assert len(watch.read()) == room + 100
    assert not select.select([watch.fileno()], [], [], 0)[0]


def test_over_can_be_waited_for_by_descriptor():
    over = Over()
    assert not select.select([over.fileno()], [], [], 0)[0]
    over.set()
    over.set()
    assert over.is_set()
    assert select.select([over.fileno()], [], [], 0)[0]
    over.close()
    over.close()

"""Worker, voice, loop, attempt and resume: what needs no job to be seen."""

import os
import select
import threading
import time

import pytest

from ckptd.daemon.attempt import Attempt
from ckptd.daemon.loop import Loop
from ckptd.daemon.resume import Base, changed_sources
from ckptd.daemon.voice import Voice
from ckptd.daemon.worker import Done, Worker
from ckptd.store.manifest import FORMAT, Manifest


@pytest.fixture
def worker():
    worker = Worker("test")
    yield worker
    assert worker.close(5)


def collect(worker, count):
    found: list[Done] = []
    while len(found) < count:
        assert select.select([worker.fileno()], [], [], 5)[0]
        found += worker.results()
    return found


def test_worker_keeps_the_order_and_reports_errors(worker):
    worker.submit("a", lambda: 1)
    worker.submit("b", lambda: 1 // 0)
    worker.submit("c", lambda: threading.current_thread().name)
    one, two, three = collect(worker, 3)
    assert (one.tag, one.value, one.error) == ("a", 1, None)
    assert isinstance(two.error, ZeroDivisionError)
    assert three.value == "test"
    assert worker.results() == []


def test_worker_that_hangs_is_left(worker):
    go = threading.Event()
    stuck = Worker("stuck")
    stuck.submit("a", go.wait)
    assert not stuck.close(0.05)
    go.set()
    assert stuck.close(5)


def test_voice_says_one_line_without_control_characters():
    read, write = os.pipe()
    Voice(0, write).say("a\nb\x1b[31m\udcff")
    assert os.read(read, 100) == b"ckptd: a b [31m \n"
    Voice(-1, write).say("nothing")
    Voice(0, write).detail("nothing")
    Voice(1, write).detail("more")
    assert os.read(read, 100) == b"ckptd: more\n"
    os.close(read)
    Voice(0, write).say("to nobody")
    os.close(write)
    Voice(0, write).say("to a closed descriptor")


def test_voice_does_not_wait_for_a_reader():
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    began = time.monotonic()
    Voice(0, write).say("dropped")
    assert time.monotonic() - began < 1
    os.close(read)
    os.close(write)


def test_voice_waits_for_one_who_is_slow_and_not_again_for_one_who_is_stuck():
    read, write = os.pipe()
    os.set_blocking(write, False)
    filled = 0
    try:
        while True:
            filled += os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    voice = Voice(0, write)
    slow = threading.Timer(0.05, lambda: os.read(read, filled))
    slow.start()
    voice.say("kept")
    slow.join()
    assert os.read(read, 100) == b"ckptd: kept\n"
    os.write(write, b"x" * filled)
    voice.say("dropped")
    began = time.monotonic()
    voice.say("dropped")
    assert time.monotonic() - began < 0.1
    os.close(read)
    os.close(write)


def test_timers_come_in_time_and_can_be_moved_and_cancelled():
    loop, seen = Loop(), []
    loop.after("a", 0.02, lambda: seen.append("a"))
    loop.after("b", 0.01, lambda: seen.append("b"))
    loop.after("b", 0.04, lambda: seen.append("moved"))
    loop.after("c", 0.01, lambda: seen.append("c"))
    loop.cancel("c")
    while len(seen) < 2:
        loop.turn()
    assert seen == ["a", "moved"]


def test_a_timer_cancelled_by_another_does_not_fire():
    loop, seen = Loop(clock=lambda: 0.0), []
    loop.at("a", 0.0, lambda: loop.cancel("b"))
    loop.at("b", 0.0, lambda: seen.append("b"))
    loop.turn()
    assert seen == []


def attempt(**fields):
    return Attempt(number=1, pid=1, base=Base(), reachable=True, peer=b"p", **fields)


def test_a_later_request_answers_those_before():
    present = attempt()
    first = present.ask("periodic", 0.0, leave=False)
    second = present.ask("signal", 0.0, leave=True)
    assert present.leave is not None
    assert present.leave.dump == second.dump
    assert present.answer(second.dump) == present.leave
    assert present.answer(first.dump) is None
    assert present.answer("7-made-up") is None


def test_one_periodic_dump_at_a_time():
    present = attempt()
    assert present.may_ask_periodic()
    present.ask("periodic", 100.0, leave=False)
    assert not present.may_ask_periodic()
    present.forget_overdue(now=100.0)
    assert not present.may_ask_periodic()
    present.forget_overdue(now=1000.0)
    assert present.may_ask_periodic()
    present.writing = 1
    assert not present.may_ask_periodic()


def test_a_failed_leave_takes_the_notice_with_it():
    present = attempt(notice="SIGTERM")
    present.ask("signal", 0.0, leave=True)
    present.stay()
    end = present.ending(stopping=False, passed_on=False, has_checkpoint=True, progressed=False)
    assert not end.noticed


def test_changed_sources(tmp_path):
    import hashlib

    same, other, gone = (tmp_path / name for name in ("same.py", "other.py", "gone.py"))
    same.write_text("1")
    other.write_text("1")
    digest = hashlib.sha256(b"1").hexdigest()
    facts = {"cwd": str(tmp_path), "sources": {str(same): digest, "other.py": digest, str(gone): digest}}
    manifest = Manifest(FORMAT, "0" * 8, "0" * 8, "n", 1, 0.0, "stop", 1, "h", [], facts)
    other.write_text("2")
    assert changed_sources(manifest) == [str(gone), "other.py"]

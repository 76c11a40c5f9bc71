"""logind on a bus of its own: a real dbus-daemon, and a login1 that holds shutdowns as long as it is asked to."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from ckptd.notices.event import LEAVE, Over
from ckptd.notices.logind import Logind

pytest.importorskip("dbus_fast", reason="dbus-fast is not installed")
if shutil.which("dbus-daemon") is None:
    pytest.skip("there is no dbus-daemon", allow_module_level=True)

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

MANAGER = "org.freedesktop.login1.Manager"
PATH = "/org/freedesktop/login1"
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
"""


class Login1:
    """The part of logind that matters here, in a thread of its own."""

    def __init__(self, address):
        self.address = address
        self.locks, self.asked = [], []
        self.delay, self.preparing, self.refuses = 7_000_000, False, False
        self._ready, self._over = threading.Event(), Over()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(10)
        self._over.close()
        for lock in self.locks:
            os.close(lock)

    async def _serve(self):
        self._bus = await MessageBus(self.address, negotiate_unix_fd=True).connect()
        self._loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        self._loop.add_reader(self._over.fileno(), ended.set)
        self._bus.add_message_handler(self._answer)
        await self._bus.request_name("org.freedesktop.login1")
        self._ready.set()
        await ended.wait()
        self._bus.disconnect()

    def _answer(self, message):
        if message.message_type is not MessageType.METHOD_CALL or message.path != PATH:
            return None
        if message.member == "Inhibit":
            self.asked.append(message.body)
            if self.refuses:
                return Message.new_error(
                    message, "org.freedesktop.DBus.Error.AccessDenied", "Permission denied"
                )
            mine, theirs = os.pipe()
            self.locks.append(mine)
            self._loop.call_later(0.2, os.close, theirs)  # when it has been sent
            return Message.new_method_return(message, "h", [0], [theirs])
        value = {
            "InhibitDelayMaxUSec": Variant("t", self.delay),
            "PreparingForShutdown": Variant("b", self.preparing),
        }
        return Message.new_method_return(message, "v", [value[message.body[1]]])

    def say(self, begins):
        """PrepareForShutdown."""
        message = Message.new_signal(PATH, MANAGER, "PrepareForShutdown", "b", [begins])
        self._loop.call_soon_threadsafe(self._bus.send, message)

    def is_held(self, lock=-1):
        """Whether anybody has the other end."""
        return not select.select([self.locks[lock]], [], [], 0)[0]


@contextmanager
def bus_in(tmp_path):
    path = tmp_path / "bus"
    (tmp_path / "bus.conf").write_text(CONFIG.format(path=path))
    daemon = subprocess.Popen(
        ["dbus-daemon", f"--config-file={tmp_path / 'bus.conf'}", "--nofork", "--print-address"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()
        yield f"unix:path={path}"
    finally:
        daemon.terminate()
        daemon.communicate(timeout=10)
        path.unlink(missing_ok=True)


@pytest.fixture
def address(tmp_path):
    with bus_in(tmp_path) as address:
        yield address


@pytest.fixture
def login1(address):
    with Login1(address) as login1:
        yield login1


def test_a_shutdown_is_delayed_until_it_is_released(login1, listen, await_that):
    source = Logind(login1.address)
    listening = listen(source)
    listening.fares("logind", "ok")
    assert login1.asked == [["shutdown", "ckptd", "Training is being saved", "delay"]]
    assert login1.is_held()
    begun = time.monotonic()
    login1.say(True)
    notice = listening.next()
    assert time.monotonic() - begun < 0.5
    assert (notice.source, notice.kind, notice.withdrawn) == ("logind", LEAVE, False)
    assert notice.deadline - begun == pytest.approx(7, abs=0.5)
    assert login1.is_held()
    source.release()
    await_that(lambda: not login1.is_held())
    source.release()
    login1.say(False)
    assert listening.next().withdrawn
    await_that(lambda: len(login1.locks) == 2 and login1.is_held())


def test_closing_gives_the_lock_back(login1, listen, await_that):
    listening = listen(Logind(login1.address))
    listening.fares("logind", "ok")
    begun = time.monotonic()
    listening.watch.close()
    assert time.monotonic() - begun < 1.0
    await_that(lambda: not login1.is_held())


def test_a_shutdown_that_has_begun_is_heard(login1, listen):
    login1.preparing = True
    notice = listen(Logind(login1.address)).next()
    assert notice.deadline <= time.monotonic()  # there is no lock any more


def test_without_a_lock_it_is_heard_and_said(login1, listen):
    login1.refuses = True
    listening = listen(Logind(login1.address))
    assert "refuses Inhibit: Permission denied" in listening.fares("logind", "trouble").text
    login1.say(True)
    assert listening.next().deadline <= time.monotonic()


def test_a_bus_that_goes_is_said_and_one_that_comes_back_is_used(tmp_path, listen):
    with bus_in(tmp_path) as address, Login1(address) as login1:
        listening = listen(Logind(address))
        listening.fares("logind", "ok")
        login1.say(True)
        assert listening.next().kind == LEAVE
    assert "system bus" in listening.fares("logind", "trouble").text
    with bus_in(tmp_path) as address, Login1(address):
        assert listening.next().withdrawn  # it was called off while nobody could say so
        listening.fares("logind", "ok")


def test_a_logind_that_is_started_again_is_heard(address, listen):
    with Login1(address):
        listening = listen(Logind(address))
        listening.fares("logind", "ok")
    with Login1(address) as login1:
        login1.say(True)
        assert listening.next().kind == LEAVE


def test_no_bus_and_no_logind_are_said(address, tmp_path, listen):
    assert "no such file" in listen(Logind(f"unix:path={tmp_path / 'none'}")).fares("logind", "trouble").text
    assert "refuses" in listen(Logind(address)).fares("logind", "trouble").text

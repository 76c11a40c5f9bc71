"""What goes to a service manager, as its socket gets it."""

from __future__ import annotations

import os
import socket
import time

import pytest

from ckptd.daemon.notify import Notifier, watchdog_seconds, without_manager


class Manager:
    """A datagram socket to which services talk."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(5)

    def heard(self) -> str:
        return self.socket.recv(65536).decode()


@pytest.fixture(params=["path", "abstract"])
def listening(request, tmp_path):
    if request.param == "path":
        named: str = str(tmp_path / "notify")
        manager = Manager(named)
    else:
        named = f"@ckptd-test-{os.getpid()}-{time.monotonic_ns()}"
        manager = Manager("\0" + named[1:])
    yield manager, {"NOTIFY_SOCKET": named}
    manager.socket.close()


def test_each_message_is_one_datagram_of_its_lines(listening):
    manager, env = listening
    notifier = Notifier(env)
    assert notifier.listens
    for tell, line in [
        (notifier.ready, "READY=1"),
        (notifier.stopping, "STOPPING=1"),
        (notifier.watchdog, "WATCHDOG=1"),
        (lambda: notifier.extend(1.5), "EXTEND_TIMEOUT_USEC=1500000"),
        (lambda: notifier.extend(-3), "EXTEND_TIMEOUT_USEC=1"),
        (lambda: notifier.status("running, step 7"), "STATUS=running, step 7"),
    ]:
        assert tell()
        assert manager.heard() == line


def test_a_status_is_one_line_whatever_is_in_it(listening):
    manager, env = listening
    Notifier(env).status("a\nREADY=1\x1b[0m" + "ü" * 2000)
    heard = manager.heard()
    assert heard.startswith("STATUS=a READY=1 [0mü")
    assert "\n" not in heard
    assert len(heard.encode()) <= 1507


def test_reloading_says_when(listening):
    manager, env = listening
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier(env).reloading()
    first, second = manager.heard().split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= before + 60_000_000


@pytest.mark.parametrize("named", ["", "relative/path", "@", "vsock:2:1234"])
def test_no_manager_no_message(named):
    notifier = Notifier({"NOTIFY_SOCKET": named, "WATCHDOG_USEC": "1000000"})
    assert not notifier.listens
    assert notifier.watchdog_seconds == 0
    assert not notifier.ready()


def test_only_the_process_that_the_manager_started_speaks(listening):
    _, env = listening
    assert Notifier({**env, "SYSTEMD_EXEC_PID": str(os.getpid())}).listens
    assert not Notifier({**env, "SYSTEMD_EXEC_PID": str(os.getppid())}).listens


def test_a_manager_that_is_gone_or_does_not_read_stops_nobody(tmp_path):
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "nothing")}).ready()
    assert not Notifier({"NOTIFY_SOCKET": "/" + "x" * 300}).ready()
    manager = Manager(str(tmp_path / "full"))
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "full")})
    began = time.monotonic()
    taken = [notifier.status("x" * 1000) for _ in range(2000)]
    assert taken[0]
    assert not taken[-1]  # its queue is full
    assert time.monotonic() - began < 5
    manager.socket.close()


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getppid())}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
        ({"WATCHDOG_USEC": "²"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_ours_or_nobodys(env, seconds):
    assert watchdog_seconds(env) == seconds


def test_what_is_started_elsewhere_has_another_manager():
    env = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "HOME": "/h"}
    assert without_manager(env) == {"HOME": "/h"}

"""``ckptd run`` below a service manager: what the manager is told, and that the program notices nothing."""

from __future__ import annotations

import socket
import sys
import threading

import pytest


class Manager:
    """Listens as systemd does, and writes down what it hears."""

    def __init__(self, path):
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        while data := self._socket.recv(65536):
            self.lines += data.decode().split("\n")

    def close(self, path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(path))
        self._thread.join(5)
        self._socket.close()


@pytest.fixture
def manager(tmp_path):
    listening = Manager(tmp_path / "notify")
    yield listening
    listening.close(tmp_path / "notify")


def told(tmp_path, **more):
    return {"env": {"NOTIFY_SOCKET": str(tmp_path / "notify"), "SYSTEMD_EXEC_PID": "", **more}}


def test_from_its_start_to_its_end(fake, manager, tmp_path):
    run = fake(3, popen=told(tmp_path))
    assert run.wait() == 0
    run.until(lambda: manager.lines[-1:] == [f"EXTEND_TIMEOUT_USEC={100_000_000}"], "the last message")
    assert [line for line in manager.lines if line.startswith(("READY", "STOPPING", "WATCHDOG"))] == [
        "READY=1",
        "STOPPING=1",
    ]
    said = [line for line in manager.lines if line.startswith("STATUS=")]
    assert said[0] in ("STATUS=checking", "STATUS=starting")
    assert any(line.startswith("STATUS=running") for line in said)
    assert said[-1].startswith("STATUS=finished")
    running = next(line for line in said if line.startswith("STATUS=running"))
    assert manager.lines.index("READY=1") < manager.lines.index(running)


def test_a_stop_asks_for_time_while_the_dump_is_taken(fake, manager, tmp_path):
    run = fake(10**6, dump="never", flags=["--grace", "3s"], popen=told(tmp_path))
    run.line("3")
    before = len(manager.lines)
    run.process.terminate()
    run.wait()
    asked = [line for line in manager.lines[before:] if line.startswith("EXTEND")]
    assert asked[:2] == ["EXTEND_TIMEOUT_USEC=15000000"] * 2  # at once, and again 2 s later
    assert manager.lines.index("STOPPING=1") > before + manager.lines[before:].index(asked[1])


def test_a_stop_that_is_quick_says_what_was_saved(fake, manager, tmp_path):
    run = fake(10**6, popen=told(tmp_path))
    run.line("3")
    run.process.terminate()
    assert run.wait() == 75
    run.until(lambda: "STOPPING=1" in manager.lines, "the end")
    last = [line for line in manager.lines if line.startswith("STATUS=")][-1]
    assert last.startswith("STATUS=stopped, step ")
    assert "saved step" in last


def test_the_watchdog_is_fed_twice_in_its_period(fake, manager, tmp_path):
    run = fake(10**6, popen=told(tmp_path, WATCHDOG_USEC="400000"))
    run.line("1")
    run.until(lambda: manager.lines.count("WATCHDOG=1") >= 5, "a sign of life")


def test_the_program_has_the_environment_that_it_would_have(start, manager, tmp_path):
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    given = told(tmp_path, WATCHDOG_USEC="60000000", WATCHDOG_PID="1")
    (tmp_path / "show.py").write_text(f"import os; print([os.environ.get(name) for name in {names}])")
    run = start(sys.executable, "show.py", **given)
    assert run.wait() == 0
    assert run.out.strip() == str([given["env"][name] for name in names])
    assert "WATCHDOG=1" not in manager.lines  # it is another process that is watched

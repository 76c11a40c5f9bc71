"""What a notice signal comes to: after the dump, what it would have done without ckptd."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest
from integration.bootstrap.job import Place
from integration.bootstrap.router import Router

from ckptd.protocol import Dump, Dumped, Notice, Said, Saved, Undumped

LOOP = "from ckptd_agent import safepoint\nsafepoint.meet()\nprint('up', flush=True)\nsafepoint.loop()\n"


def _up(place: Place, router: Router, text: str, **env: str) -> subprocess.Popen[bytes]:
    process = place.start([place.write("train.py", text)], place.under(router.endpoint, **env))
    router.expect(Said)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


def _saved(router: Router, reason: str = "signal") -> None:
    """Ask for a dump that ends the process, and say that it is safe."""
    router.send(Dump("d1", reason, time.monotonic() + 20, True))
    router.expect(Dumped)
    router.send(Saved("d1", "c1", 7))


@pytest.mark.parametrize(
    ("handler", "status", "out"),
    [
        ("lambda n, f: sys.exit(n)", 15, b""),
        ("lambda n, f: os._exit(4)", 4, b""),
        ("signal.default_int_handler", -signal.SIGINT, b""),
        ("signal.SIG_DFL", -signal.SIGTERM, b""),
    ],
)
def test_the_program_s_own_handler_runs_after_the_dump(
    place: Place, router: Router, handler: str, status: int, out: bytes
) -> None:
    text = f"import torch, signal, sys, os\nsignal.signal(signal.SIGTERM, {handler})\n"
    process = _up(place, router, text + LOOP)
    process.send_signal(signal.SIGTERM)
    router.expect(Notice)
    assert process.poll() is None
    _saved(router)
    assert process.communicate(timeout=20)[0] == out
    assert process.returncode == status


def test_a_handler_that_returns_lets_the_program_end_itself(place: Place, router: Router) -> None:
    """The usual kind: it sets a flag. It sees its own frames and nothing of ours."""
    text = """
import torch, signal, sys
from ckptd_agent import safepoint
stop = []
def mine(number, frame):
    stop.append((number, frame.f_code.co_name))
def train():
    while not stop:
        safepoint.loop(0.01)
signal.signal(signal.SIGTERM, mine)
safepoint.meet()
print('up', flush=True)
train()
print('behind the checkpoint')
sys.exit(3 if stop == [(15, 'train')] else 4)
"""
    process = _up(place, router, text)
    process.send_signal(signal.SIGTERM)
    router.expect(Notice)
    _saved(router)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (3, b"")  # what it prints now the resumed process prints


@pytest.mark.parametrize(("handler", "status"), [("", -signal.SIGTERM), ("lambda n, f: sys.exit(8)", 8)])
def test_a_stop_without_a_signal_ends_as_sigterm_would(
    place: Place, router: Router, handler: str, status: int
) -> None:
    line = f"signal.signal(signal.SIGTERM, {handler})\n" if handler else ""
    process = _up(place, router, "import torch, signal, sys\n" + line + LOOP)
    _saved(router, "stop")
    assert process.wait(20) == status


def test_output_is_flushed_before_the_default_end(place: Place, router: Router) -> None:
    process = _up(
        place, router, "import torch\n" + LOOP.replace("safepoint.loop()", "print('late')\nsafepoint.loop()")
    )
    process.send_signal(signal.SIGTERM)
    router.expect(Notice)
    _saved(router)
    assert process.communicate(timeout=20)[0] == b"late\n"
    assert process.returncode == -signal.SIGTERM


def test_other_signals_are_notices_only_if_named(place: Place, router: Router) -> None:
    process = _up(place, router, "import torch\n" + LOOP, CKPTD_NOTICE_SIGNALS="TERM,USR2,bogus,KILL")
    process.send_signal(signal.SIGUSR2)
    assert router.expect(Notice).signal == signal.SIGUSR2
    _saved(router)
    assert process.wait(20) == -signal.SIGUSR2
    process = _up(place, router, "import torch\n" + LOOP)
    process.send_signal(signal.SIGUSR2)
    assert process.wait(20) == -signal.SIGUSR2


ASYNCIO = """
import torch, asyncio, signal, sys
from ckptd_agent import safepoint
async def main():
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    print('up', flush=True)
    while not done.is_set():
        safepoint.poll()
        await asyncio.sleep(0.005)
    sys.exit(9)
safepoint.meet()
asyncio.run(main())
"""


def test_an_asyncio_handler_runs_after_the_dump(place: Place, router: Router) -> None:
    process = _up(place, router, ASYNCIO)
    process.send_signal(signal.SIGTERM)
    router.expect(Notice)
    assert process.poll() is None
    _saved(router)
    assert process.wait(20) == 9


def test_an_asyncio_handler_runs_at_once_without_a_supervisor(place: Place) -> None:
    script = place.write("train.py", ASYNCIO.replace("safepoint.meet()", ""))
    process = place.start([script], place.under(f"ipc://{place.folder}/nobody"))
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 9


def test_during_a_replay_a_notice_ends_the_process_at_once(place: Place, router: Router) -> None:
    """The program's handler would see a state that never was: it does not run."""
    text = "import torch, signal\nfrom ckptd_agent import safepoint\nsafepoint.REPLAYING = True\n"
    process = _up(place, router, text + "signal.signal(15, lambda n, f: print('mine'))\n" + LOOP)
    process.send_signal(signal.SIGTERM)
    router.expect(Notice)
    assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == -signal.SIGTERM


def test_without_an_engine_each_request_is_declined_and_training_goes_on(
    place: Place, router: Router
) -> None:
    """And a signal is one notice, however fast it came to nothing."""
    process = _up(place, router, "import torch\n" + LOOP, TEST_NO_ENGINE="1")
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        router.expect(Notice)
        router.send(Dump("d1", "signal", time.monotonic() + 20, True))
        assert router.expect(Undumped).why == "the agent could not be started: RuntimeError: torch is too old"
        assert router.hear(0.3) is None
    assert process.poll() is None


def test_a_forked_child_does_not_take_its_parent_s_dump(place: Place, router: Router) -> None:
    text = """
import os, torch
from ckptd_agent import safepoint
from ckptd_agent.loops import hooks
hooks.at_safe_point, hooks.ON = print, True
child = os.fork()
if not child:
    os._exit(int(hooks.ON or hooks.at_safe_point is not None))
print(os.waitpid(child, 0)[1], hooks.ON, hooks.at_safe_point is print)
"""
    assert place.run([place.write("x.py", text)], place.under(router.endpoint)) == (0, b"0 True True\n", b"")

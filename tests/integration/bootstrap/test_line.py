"""The conversation, and a job that runs unharmed whatever the supervisor does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from integration.bootstrap.job import Place
from integration.bootstrap.router import Router

from ckptd.protocol import Dump, Dumped, Hello, Notice, Saved, Undumped, Unsaved, Welcome

LOOP = "import torch\nfrom ckptd_agent import safepoint\nprint('up', flush=True)\nsafepoint.loop()\n"

# A lock of the C library that is never released: no signal makes this call return.
STUCK = """
import torch, ctypes
libc = ctypes.CDLL(None)
lock = ctypes.create_string_buffer(64)
print('up', flush=True)
libc.pthread_mutex_lock(lock)
libc.pthread_mutex_lock(lock)
"""


def _dump(leave: bool = True, seconds: float = 20.0) -> Dump:
    return Dump("d1", "signal", time.monotonic() + seconds, leave)


def _up(place: Place, router: Router, text: str, **env: str) -> subprocess.Popen[bytes]:
    """Start a script and wait until it says 'up' and the agent has said Hello."""
    process = place.start([place.write("train.py", text)], place.under(router.endpoint, **env))
    hello = router.expect(Hello)
    assert hello.pid == process.pid
    router.send(Welcome(every_steps=3))
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


def test_hello_welcome_notice_dump_saved_and_the_default_end(place: Place, router: Router) -> None:
    process = _up(place, router, LOOP)
    process.send_signal(signal.SIGTERM)
    assert router.expect(Notice).signal == signal.SIGTERM
    router.send(_dump())
    assert router.expect(Dumped).dump == "d1"
    assert process.poll() is None
    router.send(Saved("d1", "c1", 7))
    assert process.wait(20) == -signal.SIGTERM


def test_two_signals_in_a_row_are_one_notice(place: Place, router: Router) -> None:
    process = _up(place, router, LOOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    router.expect(Notice)
    process.send_signal(signal.SIGTERM)
    router.send(_dump())
    router.expect(Dumped)
    router.send(Saved("d1", "c1", 7))
    assert process.wait(20) == -signal.SIGTERM
    while router.hear(0.2):
        pass
    assert [type(m) for m in router.heard].count(Notice) == 1


def test_hello_says_who_we_are(place: Place, router: Router) -> None:
    script = place.write("train.py", "import torch\n")
    process = place.start([script, "--lr", "\udcff"], place.under(router.endpoint, RANK="3", WORLD_SIZE="8"))
    hello = router.expect(Hello)
    assert (hello.rank, hello.world_size, hello.python) == (3, 8, place.identity())
    assert hello.argv[1:] == [str(script), "--lr", "\ufffd"]
    assert process.wait(20) == 0


def test_after_a_dump_that_came_to_nothing_the_next_signal_is_a_notice_again(
    place: Place, router: Router
) -> None:
    process = _up(place, router, LOOP)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        router.expect(Notice)
        router.send(_dump())
        router.expect(Dumped)
        router.send(Unsaved("d1", "no space left"))
        router.send(_dump(leave=False))  # it still answers; and has taken Unsaved when it does
        router.expect(Dumped)
        router.send(Saved("d1", "c1", 7))
    assert process.poll() is None


def test_a_notice_reaches_the_supervisor_while_the_main_thread_is_in_c_code(
    place: Place, router: Router
) -> None:
    process = _up(place, router, STUCK)
    process.send_signal(signal.SIGTERM)
    assert router.expect(Notice).signal == signal.SIGTERM


def test_a_stuck_main_thread_ends_by_the_signal_when_no_supervisor_answers(place: Place) -> None:
    text = (
        "import torch, ctypes\nprint('up', flush=True)\nlibc = ctypes.CDLL(None)\n"
        "while True: libc.sigsuspend if 0 else libc.sleep(60)\n"
    )
    with Router() as router:
        process = _up(
            place,
            router,
            text.replace("libc.sigsuspend if 0 else libc.sleep(60)", "libc.poll(None, 0, 60000)"),
        )
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM


def test_an_unanswered_notice_has_its_effect_in_the_end(place: Place, router: Router) -> None:
    own = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda n, f: sys.exit(9))\n"
    process = _up(place, router, own + LOOP)
    process.send_signal(signal.SIGTERM)
    router.expect(Notice)
    assert process.wait(20) == 9


@pytest.mark.parametrize(
    ("handler", "status"),
    [("", -signal.SIGTERM), ("signal.signal(signal.SIGTERM, lambda n, f: sys.exit(5))", 5)],
)
def test_without_a_supervisor_a_signal_does_what_it_does(place: Place, handler: str, status: int) -> None:
    script = place.write(
        "train.py", f"import torch, signal, sys, time\n{handler}\nprint('up', flush=True)\ntime.sleep(60)\n"
    )
    process = place.start([script], place.under(f"ipc://{place.folder}/nobody"))
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == status


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_supervisor_that_dies_or_freezes_is_noticed(place: Place, tmp_path: Path, how: int) -> None:
    """Within about two seconds; from then on a signal has its own effect, and training goes on until then."""
    script = place.write(
        "train.py",
        "import torch, time\nfrom ckptd_agent import link\n"
        "while not link.connected(): time.sleep(0.01)\n"
        "print('up', flush=True)\n"
        "while link.connected(): time.sleep(0.01)\n"
        "print('gone', flush=True)\ntime.sleep(60)\n",
    )
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("router.py"), tmp_path], stdout=subprocess.PIPE
    ) as supervisor:
        try:
            process = place.start([script], place.under(f"ipc://{tmp_path}/socket"))
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            supervisor.send_signal(how)
            begun = time.monotonic()
            assert process.stdout.readline() == b"gone\n"
            assert time.monotonic() - begun < 4
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == -signal.SIGTERM
        finally:
            supervisor.kill()


def test_a_new_supervisor_at_the_same_place_is_told_who_we_are(place: Place, tmp_path: Path) -> None:
    with Router(tmp_path) as router:
        process = _up(place, router, LOOP)
    with Router(tmp_path) as router:
        assert router.expect(Hello).pid == process.pid
        process.send_signal(signal.SIGTERM)
        router.expect(Notice)


def test_a_wait_for_the_answer_ends_with_the_supervisor(place: Place) -> None:
    with Router() as router:
        process = _up(place, router, LOOP)
        router.send(_dump(seconds=60.0))
        router.expect(Dumped)
    assert process.wait(20) == -signal.SIGTERM


def test_nonsense_is_counted_and_nothing_else(place: Place, router: Router) -> None:
    text = (
        "import torch, time\nfrom ckptd_agent import link\nprint('up', flush=True)\n"
        "while link.nonsense() < 6: time.sleep(0.01)\nprint('six', link.connected())\n"
    )
    process = _up(place, router, text)
    router.send(Hello(1, 0, 1, [], ""))
    for data in (b"", b"\xc1", b"nonsense", b"\x93\x02\xa4dump\x80", bytes(1 << 20)):
        router.send(data)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, b"six True\n", b"")


def test_a_supervisor_that_never_reads_costs_nothing(place: Place, router: Router) -> None:
    script = place.write(
        "train.py",
        "import torch, time\nfrom ckptd import protocol\nfrom ckptd_agent import link\n"
        "until = time.monotonic() + 20\n"
        "while not link.connected() and time.monotonic() < until: time.sleep(0.01)\n"
        "begun = time.monotonic()\n"
        "for n in range(20000): link.send(protocol.Progress(n)); link.send(protocol.Said('x' * 1000))\n"
        "print(time.monotonic() - begun < 5)\n",
    )
    begun = time.monotonic()
    assert place.run([script], place.under(router.endpoint)) == (0, b"True\n", b"")
    assert time.monotonic() - begun < 15


def test_the_last_words_of_a_process_arrive(place: Place, router: Router) -> None:
    script = place.write(
        "train.py",
        "import torch\nfrom ckptd import protocol\nfrom ckptd_agent import link\n"
        "link.send(protocol.Undumped('d1', 'not now'))\n",
    )
    assert place.run([script], place.under(router.endpoint))[0] == 0
    assert router.expect(Undumped).why == "not now"


def test_an_exit_waits_for_no_supervisor(place: Place) -> None:
    script = place.write(
        "train.py",
        "import torch, atexit, time\nfrom ckptd import protocol\nfrom ckptd_agent import link\n"
        "link.send(protocol.Undumped('d1', 'not now'))\n"
        "begun = time.monotonic()\nlink.flush()\nprint(time.monotonic() - begun < 1)\n",
    )
    assert place.run([script], place.under(f"ipc://{place.folder}/nobody")) == (0, b"True\n", b"")


def test_at_rest_the_agent_takes_no_time(place: Place, router: Router) -> None:
    """Context switches of the agent's thread within two quiet seconds."""
    text = """
import torch, time, threading, os
from ckptd_agent import link
def switches(tid):
    with open(f'/proc/self/task/{tid}/status') as status:
        return sum(int(line.split()[1]) for line in status if 'ctxt_switches' in line)
while not link.connected(): time.sleep(0.01)
print('up', flush=True)
time.sleep(0.5)
tids = sorted(map(int, os.listdir('/proc/self/task')))
before = {tid: switches(tid) for tid in tids}
time.sleep(2.0)
print(sum(switches(tid) - before[tid] for tid in tids if tid != os.getpid()))
print(threading.active_count())
"""
    process = _up(place, router, text)
    out, err = process.communicate(timeout=20)
    assert err == b""
    moved, threads = map(int, out.split())
    assert moved <= 40  # ZeroMQ's own thread answers heartbeats; a busy loop would be thousands
    assert threads == 1

"""A program behaves under the agent as without it: output, status, what it sees of itself."""

from __future__ import annotations

import json
import os
import re

import pytest
from integration.bootstrap.job import Place, write
from integration.bootstrap.router import Router

PROGRAMS = {
    "success": "import torch\nprint('done')\n",
    "exit 3": "import torch, sys\nprint('done')\nsys.exit(3)\n",
    "exit with a sentence": "import torch, sys\nsys.exit('no data')\n",
    "os._exit": "import torch, os\nos._exit(4)\n",
    "exception": "import torch\ndef train():\n    {}['missing']\ntrain()\n",
    "keyboard interrupt": "import torch, os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n",
    "killed": "import torch, os, signal\nos.kill(os.getpid(), signal.SIGUSR1)\nwhile True: pass\n",
    "atexit": "import torch, atexit\natexit.register(print, 'bye')\nprint('done')\n",
    "identity": (
        "import torch, sys\nprint(__name__, __file__, __spec__, __package__, sys.argv, sys.path, sys.flags)\n"
    ),
    "signals": (
        "import torch, signal\n"
        "for number in signal.valid_signals(): print(number, signal.getsignal(number))\n"
        "print(signal.set_wakeup_fd(-1), signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "print(signal.signal, signal.getsignal, signal.signal.__module__, signal.set_wakeup_fd.__doc__)\n"
    ),
    "own handler": (
        "import torch, signal\n"
        "def mine(number, frame): print('mine', number, frame.f_code.co_name)\n"
        "print(signal.signal(signal.SIGTERM, mine), signal.getsignal(signal.SIGTERM) is mine)\n"
        "print(signal.signal(signalnum=15, handler=signal.SIG_IGN) is mine, signal.getsignal(15))\n"
        "print(repr(signal.signal(15, 0)), repr(signal.getsignal(15)))\n"
        "for bad in (None, 'x', 7):\n"
        "    try: signal.signal(15, bad)\n"
        "    except (TypeError, ValueError) as error: print(type(error), error)\n"
        "try: signal.signal(99, mine)\n"
        "except ValueError as error: print(error)\n"
        "import threading\n"
        "def other():\n"
        "    try: signal.signal(15, mine)\n"
        "    except ValueError as error: print(error)\n"
        "thread = threading.Thread(target=other); thread.start(); thread.join()\n"
    ),
    "handler before torch": (
        "import signal\ndef mine(number, frame): pass\nsignal.signal(15, mine)\nimport torch\n"
        "print(signal.getsignal(15) is mine)\n"
    ),
    "wake-up descriptor": (
        "import torch, signal, os, time\n"
        "signal.signal(signal.SIGUSR1, lambda n, f: None)\n"
        "r, w = os.pipe(); os.set_blocking(w, False)\n"
        "print(signal.set_wakeup_fd(w) == -1, signal.set_wakeup_fd(w) == w)\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\nprint(os.read(r, 10))\n"
        "try: signal.set_wakeup_fd(r + 1000)\n"
        "except (ValueError, OSError) as error: print(error)\n"
        "print(signal.set_wakeup_fd(-1) == w)\n"
    ),
    "threads": "import torch, threading\nprint(threading.enumerate(), threading.active_count())\n",
    "fork": (
        "import torch, os, signal, sys\n"
        "def mine(number, frame): print('mine', flush=True)\n"
        "signal.signal(signal.SIGTERM, mine)\nsys.stdout.flush()\n"
        "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"  # 3.12 warns of any thread
        "child = os.fork()\n"
        "if not child:\n"
        "    print(signal.getsignal(15) is mine, signal.set_wakeup_fd(-1))\n"
        "    print(len(os.listdir('/proc/self/task')))\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "    sys.stdout.flush()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "print(os.waitpid(child, 0)[1])\n"
    ),
    "multiprocessing": (
        "import torch, multiprocessing, os, signal\n"
        "def work(n):\n    import torch\n    return n * torch.VALUE, signal.getsignal(15)\n"
        "if __name__ == '__main__':\n"
        "    for how in ('fork', 'spawn', 'forkserver'):\n"
        "        with multiprocessing.get_context(how).Pool(2) as pool:\n"
        "            print(how, pool.map(work, range(4)))\n"
    ),
    "a child ended by terminate": (
        "import torch, multiprocessing, time\n"
        "for how in ('fork', 'spawn'):\n"
        "    child = multiprocessing.get_context(how).Process(target=time.sleep, args=(60,))\n"
        "    if __name__ == '__main__':\n"
        "        child.start(); child.terminate(); child.join(); print(child.exitcode)\n"
    ),
    "subprocess": (
        "import torch, subprocess, sys\n"
        "code = 'import signal, os; print(signal.getsignal(15)); os.kill(os.getpid(), 15)'\n"
        "print(subprocess.run([sys.executable, '-c', code], capture_output=True))\n"
    ),
    "stdin": "import torch, sys\nprint(repr(sys.stdin.read()), sys.stdin.isatty())\n",
    "asyncio": (
        "import torch, asyncio, signal, os\n"
        "async def main():\n"
        "    loop, done = asyncio.get_running_loop(), asyncio.Event()\n"
        "    loop.add_signal_handler(signal.SIGUSR1, done.set)\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n"
        "    await asyncio.wait_for(done.wait(), 20)\n"
        "    print(loop.remove_signal_handler(signal.SIGUSR1))\n"
        "    child = await asyncio.create_subprocess_exec('true')\n"
        "    print(await child.wait())\n"
        "asyncio.run(main())\nprint(signal.set_wakeup_fd(-1))\n"
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "supervisor gone"])
def test_a_program_is_the_same(place: Place, router: Router, name: str, supervised: bool) -> None:
    script = place.write("train.py", PROGRAMS[name])
    endpoint = router.endpoint if supervised else f"ipc://{place.folder}/nobody"
    plain = _without_addresses(place.run([script], place.plain()))
    assert _without_addresses(place.run([script], place.under(endpoint))) == plain


def _without_addresses(result: tuple[int, bytes, bytes]) -> tuple[int, bytes, bytes]:
    status, out, err = result
    return status, re.sub(rb" at 0x\w+|started \d+", b"", out), re.sub(rb"pid=\d+", b"", err)


def test_modules_and_scripts_elsewhere(place: Place, router: Router) -> None:
    text = "import torch, sys\nprint(__name__, __package__, sys.argv, sys.path[0])\nsys.exit(5)\n"
    write(
        place.folder,
        {"pkg/__init__.py": "", "pkg/mod.py": text, "pkg/__main__.py": text, "far/away/s.py": text},
    )
    for words in (
        ["-m", "pkg.mod", "-x"],
        ["-m", "pkg"],
        ["far/away/s.py", "1"],
        ["-u", "-Wignore", "far/away/s.py"],
    ):
        assert place.run(words, place.under(router.endpoint)) == place.run(words, place.plain())


def test_the_environment_has_our_names_and_nothing_else(place: Place, router: Router) -> None:
    script = place.write("train.py", "import torch, os, json\nprint(json.dumps(dict(os.environ)))\n")
    plain = json.loads(place.run([script], place.plain())[1])
    under = json.loads(place.run([script], place.under(router.endpoint))[1])
    ours = {name for name in under if name.startswith("CKPTD_")}
    assert "CKPTD_CLAIMED" in ours
    assert {name: under[name] for name in under if name not in ours} == {
        **plain, "PYTHONPATH": place.under("")["PYTHONPATH"],
    }  # fmt: skip


def test_ignored_signals_stay_ignored(place: Place, router: Router) -> None:
    """As under nohup: the program inherits SIG_IGN, and so do its children."""
    script = place.write(
        "train.py",
        "import torch, signal, os, subprocess\nprint(signal.getsignal(15))\nos.kill(os.getpid(), 15)\n"
        "print(subprocess.run(['sh', '-c', 'kill -TERM $$; echo alive'], capture_output=True).stdout)\n",
    )

    for env in (place.plain(), place.under(router.endpoint)):
        process = place.start([script], env, ignoring=True)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, b"1\nb'alive\\n'\n", b"")


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
def test_a_child_that_outlives_the_trainer_holds_nothing_up(place: Place, router: Router) -> None:
    """The forked child ends by a signal as a plain one does while its parent waits for the answer."""
    script = place.write(
        "train.py",
        "import torch, os, signal, time\nfrom ckptd_agent import link, safepoint\nsafepoint.meet()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    from ckptd.protocol import Said\n"
        "    link.send(Said('from the child'))\n    link.flush(5)\n    time.sleep(60)\n"
        "os.kill(child, signal.SIGTERM)\nprint(os.waitpid(child, 0)[1])\n",
    )
    status, out, _ = place.run([script], place.under(router.endpoint))
    assert (status, out) == (0, b"15\n")
    while router.hear(0.2):
        pass
    assert "from the child" not in str(router.heard)
    assert "Notice" not in str(router.heard)

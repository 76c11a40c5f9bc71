"""Starts scripts as ``ckptd run`` would, with a small engine in place of the real one.

The engine of these tests does no more than the agent's interface with it: ``safepoint.poll()`` stands for a
loop's head. torch is a package of three lines, so that a run takes no time; only its import counts here.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BOOTSTRAP = ROOT / "agent" / "bootstrap"
AGENT = ROOT / "agent" / "ckptd_agent"

ENGINE = {
    "source/finder.py": "def install(script):\n    global SCRIPT\n    SCRIPT = script\n",
    "loops/hooks.py": "replay = at_safe_point = None\ndef switch(on):\n    global ON\n    ON = on\n",
    "replay.py": """
import os
from ckptd.errors import RefusedError
from ckptd_agent import safepoint
def begin(folder):
    if os.environ.get("TEST_REFUSE") == "crash":
        raise ZeroDivisionError("division by zero")
    if os.environ.get("TEST_REFUSE"):
        raise RefusedError("torch is 2.12, the checkpoint's is 2.13; --fresh starts over")
    safepoint.REPLAYING = True
""",
    "safepoint.py": """
import os
import time
from ckptd.protocol import Dumped, Said
from ckptd_agent import link, signals
REPLAYING = False
INSTALLED = 0
def install():
    global INSTALLED
    INSTALLED += 1
    if "TEST_NO_ENGINE" in os.environ:
        raise RuntimeError("torch is too old")
ASKED = []
WELCOME = []
def replaying():
    return REPLAYING
def request(dump):
    ASKED.append(dump)
def answered(message):
    pass
def welcome(message):
    WELCOME.append(message)
def meet():
    until = time.monotonic() + 20
    while not link.connected() and time.monotonic() < until:
        time.sleep(0.005)
    link.send(Said("here"))
    link.flush(20)
def poll():
    if ASKED:
        dump = ASKED.pop()
        link.send(Dumped(dump.dump, "/dev/shm/none", 7, 0.0))
        answer = link.wait_saved(dump.dump, dump.deadline)
        if dump.leave and (answer is None or type(answer).__name__ == "Saved"):
            signals.leave()
def loop(seconds=60.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        poll()
        time.sleep(0.005)
""",
}
TORCH = {"torch/__init__.py": "from . import nn\nVALUE = 1\n", "torch/nn.py": "LAYER = 2\n"}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def agent_with_small_engine(folder: Path) -> Path:
    """A folder with this tree's ckptd_agent, its engine exchanged."""
    target = folder / "ckptd_agent"
    target.mkdir(parents=True)
    for name in (
        "__init__",
        "__main__",
        "arm",
        "disguise",
        "gate",
        "line",
        "link",
        "threads",
        "notice",
        "shield",
        "signals",
    ):
        shutil.copy(AGENT / f"{name}.py", target)
    write(target, ENGINE)
    for package in ("source", "loops"):
        (target / package / "__init__.py").touch()
    (folder / "ckptd").symlink_to(ROOT / "ckptd")  # for interpreters that have it not installed
    return folder


class Place:
    """A folder with scripts, and the environment that they run in, plain or under ckptd."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.python = python
        self.agent = agent_with_small_engine(folder / "agent")
        self.libraries = write(folder / "libraries", TORCH)
        self.processes: list[subprocess.Popen[bytes]] = []

    def write(self, name: str, text: str) -> Path:
        write(self.folder, {name: text})
        return self.folder / name

    def plain(self, **more: str) -> dict[str, str]:
        """The environment without ckptd. Its PYTHONPATH is the user's."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("CKPTD_", "PYTHON"))}
        return {**env, "PYTHONPATH": str(self.libraries), "PYTHONHASHSEED": "0", **more}

    def under(self, endpoint: str, **more: str) -> dict[str, str]:
        """The environment that the supervisor makes of it."""
        env = self.plain(**more)
        names = [str(BOOTSTRAP), *filter(None, [env.get("PYTHONPATH")])]
        ours = {
            "CKPTD_ENDPOINT": endpoint,
            "CKPTD_JOB": "0123abcd",
            "CKPTD_PYTHON": self.identity(),
            "CKPTD_NOTICE_SIGNALS": "TERM",
            "CKPTD_GRACE": "25",
            "CKPTD_ATTEMPT": "1",
            "CKPTD_AGENT_PATH": str(self.agent),
        }
        return {**ours, **env, "PYTHONPATH": os.pathsep.join(names)}

    def identity(self) -> str:
        code = "import sys; print('%s|%d.%d' % (sys.prefix, *sys.version_info[:2]))"
        return subprocess.check_output([self.python, "-I", "-c", code], text=True).strip()

    def start(
        self, words: Sequence[str | Path], env: dict[str, str], ignoring: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start it; ``ignoring`` SIGTERM as nohup does SIGHUP."""
        process = subprocess.Popen(
            [self.python, *map(str, words)],
            env=env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=(lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)) if ignoring else None,
        )
        self.processes.append(process)
        return process

    def run(
        self, words: Sequence[str | Path], env: dict[str, str], seconds: float = 60.0
    ) -> tuple[int, bytes, bytes]:
        """Status, stdout and stderr."""
        process = self.start(words, env)
        out, err = process.communicate(timeout=seconds)
        return process.returncode, out, err

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

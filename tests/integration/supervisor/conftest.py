"""What the supervisor's tests share: a run of ``ckptd run`` that leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ckptd.daemon.names import place_key

HERE = Path(__file__).parent
FAKE = HERE / "fake_agent.py"
DEADLINE = 30.0


def runtime_files(store: Path) -> list[Path]:
    """Sockets, lock files and segment folders of a store's jobs."""
    places = [Path("/dev/shm"), Path(f"/tmp/ckptd-{os.geteuid()}")]
    if os.environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(os.environ["XDG_RUNTIME_DIR"]) / "ckptd")
    jobs = [place_key(folder.name, store) for folder in store.glob("jobs/*")]
    return [path for place in places for job in jobs for path in place.glob(f"*{job}*")]


def remove_runtime(store: Path) -> None:
    """What a ckptd that the test has killed could not remove itself."""
    for path in runtime_files(store):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class Run:
    """``ckptd run`` with a store of its own, and what has come out of it so far."""

    def __init__(self, folder: Path, flags: list[str], command: list[str], **popen: Any) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("CKPTD_")}
        env.pop("PYTHONHASHSEED", None)
        env.update(CKPTD_AGENT_PATH=str(HERE / "stub"), CKPTD_RESTART_DELAY="0.05s", **popen.pop("env", {}))
        self.store = folder / "store"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ckptd", "run", "--store", str(self.store), *flags, "--", *command],
            cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            stdin=popen.pop("stdin", subprocess.DEVNULL), **popen,
        )  # fmt: skip
        self.runtime = lambda: runtime_files(self.store)
        self.seen: list[psutil.Process] = []
        self._out, self._err = bytearray(), bytearray()
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self._out), (self.process.stderr, self._err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, into: bytearray) -> None:
        while data := os.read(stream.fileno(), 65536):
            into += data

    @property
    def out(self) -> str:
        return self._out.decode()

    @property
    def err(self) -> str:
        return self._err.decode()

    @property
    def said(self) -> list[str]:
        """ckptd's own lines."""
        return [line for line in self.err.splitlines() if line.startswith("ckptd: ")]

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for something to be true."""
        end = time.monotonic() + DEADLINE
        while not (value := condition()):
            self.note_children()
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come\n--- out\n{self.out}\n--- err\n{self.err}")
            time.sleep(0.005)
        return value

    def note_children(self) -> None:
        try:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                if child not in self.seen:
                    self.seen.append(child)
        except psutil.NoSuchProcess:
            return

    def line(self, text: str) -> None:
        """Wait for a line of the program's."""
        self.until(lambda: text in self.out.splitlines(), f"line {text!r}")

    def child(self) -> psutil.Process:
        """The program's main process."""

        def look() -> Any:
            if self.process.poll() is not None:
                raise AssertionError(f"ckptd has ended\n{self.err}")
            return psutil.Process(self.process.pid).children()

        return self.until(look, "the program's process")[0]

    def wait(self) -> int:
        """The exit status."""
        self.until(lambda: self.process.poll() is not None, "the end of ckptd")
        for reader in self._readers:
            reader.join(5)
        return self.process.returncode

    def end(self) -> None:
        self.note_children()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in self.seen:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        remove_runtime(self.store)
        for reader in self._readers:
            reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start ``ckptd run FLAGS -- COMMAND`` in tmp_path."""
    runs: list[Run] = []

    def begin(*command: str | Path, flags: list[str] | None = None, **popen: Any) -> Run:
        run = Run(tmp_path, flags or [], [str(word) for word in command], **popen)
        runs.append(run)
        return run

    yield begin
    for run in runs:
        run.end()


@pytest.fixture
def fake(start: Callable[..., Run]) -> Callable[..., Run]:
    """Start the program that speaks the protocol itself: fake(STEPS, key=value...).

    ``hold``: the step at which its first attempt waits for what the test does to it.
    """

    def begin(
        steps: int, *, flags: list[str] | None = None, popen: Any = None, hold: int = 0, **keys: object
    ) -> Run:
        words = [f"{key}={value}" for key, value in keys.items()]
        popen = {**(popen or {})}
        popen["env"] = {"FAKE_HOLD": str(hold), **popen.get("env", {})}
        return start(sys.executable, FAKE, str(steps), *words, flags=flags, **popen)

    return begin

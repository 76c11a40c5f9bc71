"""A host: a daemon with a store of its own, and ckptd's verbs against it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ckptd.daemon.names import place_key
from ckptd.daemon.processes import marked
from ckptd.daemon.table import read_table
from ckptd.host.place import find_daemon
from ckptd.store.layout import MARKER, open_store

SUPERVISOR = Path(__file__).parent.parent / "integration" / "supervisor"
FAKE = SUPERVISOR / "fake_agent.py"
DEADLINE = 30.0


class Host:
    """A store, its daemon, and what was started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store"
        self.runtime = folder / "run"
        self.runtime.mkdir(mode=0o700)
        self.env = {
            name: value for name, value in os.environ.items()
            if not name.startswith("CKPTD_") and name not in ("PYTHONHASHSEED", "NOTIFY_SOCKET")
        }  # fmt: skip
        self.env.update(
            CKPTD_AGENT_PATH=str(SUPERVISOR / "stub"), CKPTD_RESTART_DELAY="0.05s", CKPTD_STORE=str(self.store),
            XDG_RUNTIME_DIR=str(self.runtime),
        )  # fmt: skip
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> None:
        """Start a daemon, and wait until it answers."""
        log = (self.folder / "daemon.log").open("ab")
        with log:
            started = self.daemon = subprocess.Popen(
                [sys.executable, "-m", "ckptd", "daemon", "--notices", "none", "-v", *flags],
                env=self.env, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.until(
            lambda: self.opened and (self.facts() or {}).get("pid") == started.pid,
            "the daemon",
        )

    def facts(self) -> dict[str, Any] | None:
        """Where the daemon is, as it says."""
        return find_daemon(open_store(self.store, create=False))

    def kill(self) -> None:
        """SIGKILL to the daemon."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def stop(self) -> int:
        """SIGTERM to the daemon; its exit status."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGTERM)
        return self.daemon.wait(DEADLINE)

    def ckptd(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a verb."""
        done = subprocess.run(
            [sys.executable, "-m", "ckptd", *map(str, words)], env=self.env, cwd=self.folder,
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"ckptd {words}: {done.returncode}\n{done.stdout}{done.stderr}{self.log()}")
        return done

    @contextmanager
    def front(self, steps: int) -> Iterator[subprocess.Popen[bytes]]:
        """A job named 'front' in the foreground, of the program that speaks the protocol itself, once it trains."""
        words = ["run", "--name", "front", "--", sys.executable, str(FAKE), str(steps)]
        with subprocess.Popen(
            [sys.executable, "-m", "ckptd", *words], env=self.env, cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as run:  # fmt: skip
            running = [("front", "running")]
            self.until(lambda: [(row["name"], row["state"]) for row in self.rows()] == running, "the job")
            yield run

    def json(self, *words: str) -> Any:
        """What a verb says with --json."""
        return json.loads(self.ckptd(*words, "--json").stdout)

    def script(self, text: str, name: str = "job", flags: tuple[str, ...] = ()) -> str:
        """Start a detached job of a program with the real agent; returns its id."""
        path = self.folder / f"{name}.py"
        path.write_text(text)
        env = {key: value for key, value in self.env.items() if key != "CKPTD_AGENT_PATH"}
        words = ["run", "-d", "--name", name, *flags, "--", sys.executable, str(path)]
        command = [sys.executable, "-m", "ckptd", *words]
        subprocess.run(command, env=env, cwd=self.folder, check=True, capture_output=True, timeout=DEADLINE)
        return str(self.row(name)["id"])

    def job(self, steps: int, name: str = "job", flags: tuple[str, ...] = (), **keys: object) -> str:
        """Start a detached job of the program that speaks the protocol itself; returns its id."""
        words = [f"{key}={value}" for key, value in keys.items()]
        command = [sys.executable, str(FAKE), str(steps), *words]
        self.ckptd("run", "-d", "--name", name, *flags, "--", *command)
        row = self.row(name)
        return str(row["id"])

    def row(self, name: str = "job") -> dict[str, Any]:
        """A job's line of ``ckptd ps``."""
        return next(row for row in self.rows() if row["name"] == name)

    @property
    def opened(self) -> bool:
        """Whether the store is one yet."""
        return (self.store / "ckptd-store.json").exists()

    def rows(self) -> list[dict[str, Any]]:
        """All lines of ``ckptd ps``."""
        return (
            [asdict(row) for row in read_table(open_store(self.store, create=False))]
            if (self.store / MARKER).exists()
            else []
        )

    def record(self, job: str) -> dict[str, Any]:
        """The job's record, as it is on the disk."""
        return dict(json.loads((self.store / "jobs" / job / "job.json").read_bytes()))

    def output(self, job: str) -> list[str]:
        """What the job has written."""
        return (self.store / "jobs" / job / "output.log").read_text().splitlines()

    def log(self) -> str:
        """What the daemon, and the ckptd of each job, have said."""
        texts = [self.folder / "daemon.log", *self.store.glob("jobs/*/ckptd.log")]
        return "".join(
            f"--- {path.parent.name}/{path.name}\n{path.read_text()}" for path in texts if path.exists()
        )

    def until(self, condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
        """Wait for something to be true."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come\n{self.log()}")
            time.sleep(0.02)
        return value

    def steps(self, job: str, count: int) -> None:
        """Wait until the job has done so many steps."""
        self.until(lambda: len(self.output(job)) >= count, f"step {count} of {job}")

    def running(self, attempt: int, name: str = "job") -> None:
        """Wait until the job's record says so: it is written behind what happens, as fast as the disk is."""

        def is_so() -> bool:
            row = self.row(name)
            return (row["state"], row["attempt"]) == ("running", attempt)

        self.until(is_so, f"attempt {attempt} of {name}")

    def ended(self, name: str = "job", state: str = "finished") -> dict[str, Any]:
        """Wait until a job has come to its end."""
        self.until(lambda: self.row(name)["state"] == state, f"the end of {name}")
        return self.row(name)

    def end(self) -> None:
        """Kill all that was started: it has the store's name in its environment."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.kill()
        until = time.monotonic() + DEADLINE
        while (left := marked(f"CKPTD_STORE={self.store}")) and time.monotonic() < until:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)
        for job in self.store.glob("jobs/*"):
            shutil.rmtree(
                f"/dev/shm/ckptd-{os.geteuid()}-{place_key(job.name, self.store)}", ignore_errors=True
            )

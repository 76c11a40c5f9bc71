"""Warm processes (fuzz.warm) side by side, and jobs for them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
Job = dict[str, Any]
"""What fuzz.warm.Examiner.examine takes."""
Verdict = dict[str, Any]
"""fuzz.warm.Verdict as JSON, and ``job``."""


class Warmer:
    """One warm process."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="ckptd-fuzz-", dir=shared if shared.is_dir() else None))
        paths = [str(ROOT / "tests"), str(ROOT / "agent"), str(ROOT)]
        env = {name: value for name, value in os.environ.items() if not name.startswith("CKPTD_")}
        env.update(
            PYTHONPATH=os.pathsep.join(paths),
            PYTHONHASHSEED="1",
            OMP_NUM_THREADS="1",
            PYTHONDONTWRITEBYTECODE="1",
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.warm", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
        )

    def examine(self, job: Job) -> Verdict:
        """Hand it a job and wait for the verdict; RuntimeError if the process is gone."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the warm process ended with status {self.process.wait()}")
        return {**json.loads(line), "job": job}

    def close(self) -> None:
        """End it."""
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


class Warmers:
    """As many warm processes as there are processors."""

    def __init__(self, number: int = 0) -> None:
        number = number or len(os.sched_getaffinity(0))
        self.all = [Warmer() for _ in range(number)]
        self._free: SimpleQueue[Warmer] = SimpleQueue()
        for each in self.all:
            self._free.put(each)
        self._threads = ThreadPoolExecutor(number)

    def examine(self, job: Job) -> Verdict:
        """Let the next free one do a job."""
        warmer = self._free.get()
        try:
            return warmer.examine(job)
        finally:
            self._free.put(warmer)

    def examine_all(self, jobs: Iterable[Job]) -> Iterator[Verdict]:
        """The verdicts as they come; jobs are drawn as processes get free."""
        waiting = iter(jobs)
        running: set[Future[Verdict]] = set()
        while True:
            while len(running) < len(self.all):
                job = next(waiting, None)
                if job is None:
                    break
                running.add(self._threads.submit(self.examine, job))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                yield each.result()

    def close(self) -> None:
        """End them all."""
        self._threads.shutdown()
        for each in self.all:
            each.close()

    def __enter__(self) -> Warmers:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

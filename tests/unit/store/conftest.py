"""A store, a segment, and processes of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_fixtures.making import ROOT, make_job, make_segment

from ckptd.store.layout import JobFolder


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    """A job without checkpoints."""
    return make_job(tmp_path / "store")


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """A complete segment of a few bytes."""
    return make_segment(tmp_path / "segment")


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a Python program given as text, with arguments; it is killed at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def run(code: str, *args: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        process = subprocess.Popen(
            [*before, sys.executable, "-c", code, *map(str, args)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()

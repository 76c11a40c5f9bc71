"""``ckptd logs`` and ``ckptd attach``: what a job of the daemon has written, and what it writes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from ckptd.cli.one import one_job
from ckptd.cli.output import store_option
from ckptd.errors import UsageError
from ckptd.host.order import LOG, OUTPUT
from ckptd.store.lock import holder
from ckptd.store.selection import Job

LOOK = 0.1
"""Seconds between looks at what has been written."""
BLOCK = 1 << 16


@click.command("logs")
@click.argument("job", required=False)
@store_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what it writes, until it ends.")
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="N", help="Only the last N lines so far.")
@click.option("--own", is_flag=True, help="What its ckptd has said, instead of the program.")
def logs(job: str | None, store: Path | None, follow: bool, lines: int | None, own: bool) -> int:
    """Show what JOB has written to stdout and stderr."""
    _, found = one_job(store, job)
    path = _file(found, LOG if own else OUTPUT)
    show(path, lines, (lambda: holder(found.folder) is not None) if follow else lambda: False)
    return 0


def _file(job: Job, name: str) -> Path:
    path = job.folder.path / name
    if not path.exists():
        raise UsageError(f"job {job.name} runs in the foreground: what it writes is where it was started")
    return path


def show(path: Path, lines: int | None, goes_on: Callable[[], bool]) -> None:
    """Copy a file to stdout, or its last lines; and what is added to it, as long as ``goes_on``."""
    with path.open("rb") as file:
        if lines is not None:
            file.seek(_start_of_last(file.fileno(), lines))
        while True:
            more = goes_on()  # asked first, so that nothing is missed that is written before the end
            while block := file.read(BLOCK):
                sys.stdout.buffer.write(block)
                sys.stdout.buffer.flush()
            if not more:
                return
            time.sleep(LOOK)


def _start_of_last(fd: int, lines: int) -> int:
    """The offset from which a file has so many lines."""
    position = end = os.fstat(fd).st_size
    found = -1 if end and os.pread(fd, 1, end - 1) == b"\n" else 0
    while position > 0 and found < lines:
        begin = max(0, position - BLOCK)
        block = os.pread(fd, position - begin, begin)
        for at in range(len(block) - 1, -1, -1):
            if block[at] == 0x0A:
                found += 1
                if found == lines:
                    return begin + at + 1
        position = begin
    return 0 if lines else end

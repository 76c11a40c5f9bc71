"""What a process did to a disk, call by call, as fileops.c has written it down."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from faults import fileops

from torture.work import Setting, Work, say_to, write_small

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Call:
    """One call that was made, with its arguments: paths and numbers, and the bytes of a write."""

    name: str
    arguments: tuple[str, ...]
    data: bytes = b""


def record(folder: Path, seed: int, rounds: int) -> list[Call]:
    """Let a process work on the stores in ``folder / 'disk'``; returns its calls there and what it said."""
    words, env = command(folder, fileops.build(folder), seed, rounds)
    subprocess.run(words, env=env, check=True, stdout=subprocess.DEVNULL)
    return parse((folder / "trace").read_bytes(), str(folder / "disk"))


def command(folder: Path, library: Path, seed: int, rounds: int) -> tuple[list[str], dict[str, str]]:
    """The process that works in ``folder / 'disk'`` and writes ``folder / 'trace'``: its command and environment."""
    disk = folder / "disk"
    disk.mkdir()
    (folder / "shm").mkdir()
    path = f"{TESTS}{os.pathsep}{TESTS.parent}"
    env = {**os.environ, "PYTHONPATH": path, **fileops.preload(library, disk, TRACE=folder / "trace")}
    words = [str(word) for word in (disk, folder / "shm", seed, rounds)]
    return [sys.executable, "-m", "torture.recording", *words], env


def parse(text: bytes, disk: str) -> list[Call]:
    """The calls in a trace; paths come without the disk's."""
    calls = []
    at = 0
    while at < len(text):
        end = text.index(b"\n", at)
        name, *arguments = text[at:end].decode().split("\t")
        at = end + 1
        data = b""
        if name in ("write", "said"):
            data = text[at : at + int(arguments[-1])]
            at += len(data)
        calls.append(Call(name, tuple(word.removeprefix(disk).lstrip("/") for word in arguments), data))
    return calls


def _main(disk: Path, shm: Path, seed: int, rounds: int) -> None:
    write_small()
    work = Work(Setting(disk / "store", disk / "other", shm), random.Random(seed), say_to(1))
    work.go_on(rounds)
    work.close()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

"""The power fails before each call to the disk of a few commits, removals, pins and copies. See docs/format.md."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import fileops

from torture.forgetful import Disk, picks
from torture.judge import BrokenError
from torture.power import replay
from torture.recording import Call, command, parse, record

pytestmark = pytest.mark.skipif(fileops.compiler() is None, reason="needs a C compiler, to record calls")
COMMITS = 3


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """What a process did, the same each time."""
    return record(tmp_path_factory.mktemp("recorded"), 6, COMMITS)


def test_whatever_was_not_synced_may_be_lost(
    recorded: list[Call], tmp_path: Path, seeded: random.Random
) -> None:
    tally = replay(recorded, tmp_path, seeded.randrange(10**6), drawn=1)
    assert tally.points == len(recorded) + 1
    assert tally.commits == COMMITS
    assert tally.states > len(recorded)


@pytest.mark.parametrize("forgotten", ["fsync", "syncdir"])
def test_a_store_that_does_not_sync_would_be_found(
    recorded: list[Call], tmp_path: Path, forgotten: str
) -> None:
    without = [call for call in recorded if call.name != forgotten]
    with pytest.raises(BrokenError, match=r"after call \d+"):
        replay(without, tmp_path, 1, drawn=1)


def test_when_nothing_is_lost_the_disk_is_what_the_process_left(tmp_path: Path) -> None:
    """The recording has all that was done: played back, it makes the same files."""
    calls = record(tmp_path, 7, 2)
    disk = Disk()
    for call in calls:
        disk.take(call)
    image = disk.after(picks(None, True), picks(None, True))
    place = tmp_path / "disk"
    assert image.items == {
        str(path.relative_to(place)): path.read_bytes() if path.is_file() else None
        for path in place.rglob("*")
    }


CALLS = {
    "openat": "create", "mkdir": "mkdir", "mkdirat": "mkdir", "rename": "rename", "link": "link", "linkat": "link",
    "unlink": "unlink", "unlinkat": "unlink", "rmdir": "rmdir", "fsync": "fsync", "fdatasync": "fsync",
    "write": "write", "pwrite64": "write", "ftruncate": "truncate", "fallocate": "allocate",
    "renameat": "rename", "renameat2": "rename",
}  # fmt: skip
"""System calls, and what they are in a recording."""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_call_passes_the_recording_by(tmp_path: Path) -> None:
    """The kernel's own view, beside it."""
    library, disk, trace = fileops.build(tmp_path), tmp_path / "disk", tmp_path / "trace"
    seen = tmp_path / "strace"  # a file for each thread: in one, calls that overlap are cut in two
    words, env = command(tmp_path, library, 7, 2)
    wanted = f"trace={','.join(CALLS)}"
    ended = subprocess.run(
        ["strace", "-ff", "-y", "-o", seen, "-e", wanted, *words], env=env, capture_output=True, check=False
    )
    traces = sorted(tmp_path.glob("strace.*"))
    if not traces or b"Operation not permitted" in ended.stderr:
        pytest.skip("strace may not trace here")
    assert ended.returncode == 0, ended.stderr
    kernel = Counter(_made("".join(each.read_text(errors="replace") for each in traces), str(disk)))
    made = Counter(
        "fsync" if call.name == "syncdir" else call.name
        for call in parse(trace.read_bytes(), str(disk))
        if call.name != "said"
    )
    assert kernel["rename"] > 4
    assert dict(kernel) == dict(made)


def _made(text: str, disk: str) -> Iterator[str]:
    """What the kernel has done below ``disk``, by the names of a recording."""
    opened: set[str] = set()
    for line in text.splitlines():
        found = re.match(r"(\w+)\((.*)\) += \d", line)
        if found is None or disk not in line:
            continue
        name, arguments = found.groups()
        if name == "openat":
            path = arguments.split('"')[1]
            if "O_CREAT" in arguments and ("O_EXCL" in arguments or path not in opened):
                yield "create"  # of those without O_EXCL none is ever removed
            opened.add(path)
        elif name == "unlinkat" and "AT_REMOVEDIR" in arguments:
            yield "rmdir"
        else:
            yield CALLS[name]

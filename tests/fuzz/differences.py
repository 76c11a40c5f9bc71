"""What a run has written, and where two runs differ."""

from __future__ import annotations

import os
from pathlib import Path


def files_in(place: Path) -> dict[str, bytes]:
    """Names and contents of all files below a folder, but the program's own; an empty folder is ``NAME/``."""
    found = {}
    for folder, below, names in os.walk(place):
        if not below and not names:
            found[os.path.relpath(folder, place) + "/"] = b""
        for name in names:
            path = os.path.join(folder, name)
            if name != "program.py":
                with open(path, "rb") as file:
                    found[os.path.relpath(path, place)] = file.read()
    return found


def first_difference(a: bytes, b: bytes) -> str:
    """The first line that differs, in words."""
    ours, theirs = a.decode(errors="replace").splitlines(), b.decode(errors="replace").splitlines()
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        if mine != other:
            at = next((i for i, pair in enumerate(zip(mine, other, strict=False)) if pair[0] != pair[1]), 0)
            start = max(0, at - 60)
            return f"line {number}: ...{mine[start : at + 100]!r} became {other[start : at + 100]!r}"
    more = (ours[len(theirs) :] or theirs[len(ours) :] or [""])[0]
    return f"{len(ours)} lines became {len(theirs)}: {more[:200]!r}"

"""What runs print and write, compared byte by byte; what two plain runs don't share is left out, and said."""

from __future__ import annotations

import filecmp
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

STDOUT = "stdout"
TEXT_BYTES = 64 << 20
"""A larger file is compared as a whole, not line by line."""
_CLOCK = re.compile(
    rb"\d+(?:\.\d+)?(?:e[-+]?\d+)?\s?(?:[mu\xc2\xb5n]*s|secs?|seconds?|mins?|minutes?|h|hours?|\w*/s|s/\w+)\b"
    rb"|\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?|\d{4}-\d{2}-\d{2}",
    re.IGNORECASE,
)
"""Durations, rates, times of day and dates. A stop takes time, so these differ though nothing else does."""
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Output:
    """What a run left."""

    stdout: Path
    folder: Path
    written: list[str]
    """Files in the folder that it wrote or removed, by relative path."""

    def path(self, name: str) -> Path:
        """The file of that name, STDOUT included."""
        return self.stdout if name == STDOUT else self.folder / name


@dataclass
class LeftOut:
    """What two plain runs don't have in common."""

    names: set[str] = field(default_factory=set)
    """Files that can't be compared at all."""
    patterns: set[str] = field(default_factory=set)
    """Names, with # for numbers, of files that are called otherwise in each run."""
    lines: dict[str, set[int]] = field(default_factory=dict)
    """Lines of a text that differ, counted from 0."""
    clocks: Counter[str] = field(default_factory=Counter)
    """Lines that differ in nothing but times, by file; seen in the stopped run too."""


@dataclass(frozen=True)
class Unlike:
    """A file, or stdout, that isn't the same."""

    name: str
    where: str
    """'line 12', 'byte 40', or ''."""
    plain: str
    other: str


def pattern(name: str) -> str:
    """A file's name with # for each number: what names with times or process ids in them share."""
    return _DIGITS.sub("#", name)


def compare_plain(one: Output, two: Output) -> tuple[list[Unlike], LeftOut]:
    """Two plain runs: how they differ, and what is to be left out from now on."""
    left_out = LeftOut()
    found = compare(one, two, left_out)
    for name in [STDOUT, *sorted({*one.written, *two.written})]:
        ours, theirs = one.path(name), two.path(name)
        if not (ours.is_file() and theirs.is_file()):
            if ours.is_file() != theirs.is_file():
                left_out.patterns.add(pattern(name))
        elif not filecmp.cmp(ours, theirs, shallow=False):
            lines = _differing_lines(ours, theirs)
            if lines is None:
                left_out.names.add(name)
            elif lines:
                left_out.lines[name] = lines
    return found, left_out


def compare(plain: Output, other: Output, left_out: LeftOut) -> list[Unlike]:
    """How ``other`` differs from ``plain``; counts in ``left_out.clocks`` what is no difference."""
    found = []
    for name in [STDOUT, *sorted({*plain.written, *other.written})]:
        if name in left_out.names or pattern(name) in left_out.patterns:
            continue
        ours, theirs = plain.path(name), other.path(name)
        if not ours.is_file() or not theirs.is_file():
            if ours.is_file() != theirs.is_file():
                shown = ["there" if each.is_file() else "not there" for each in (ours, theirs)]
                found.append(Unlike(name, "", *shown))
        elif not filecmp.cmp(ours, theirs, shallow=False):
            found += _compare_file(name, ours, theirs, left_out)
    return found


def _compare_file(name: str, plain: Path, other: Path, left_out: LeftOut) -> list[Unlike]:
    one, two = _lines(plain), _lines(other)
    if one is None or two is None:
        sizes = f"{plain.stat().st_size} bytes", f"{other.stat().st_size} bytes"
        return [Unlike(name, f"byte {_first_byte(plain, other)}", *sizes)]
    skipped = left_out.lines.get(name, set())
    for number in range(max(len(one), len(two))):
        ours, theirs = (lines[number] if number < len(lines) else None for lines in (one, two))
        if ours == theirs or number in skipped:
            continue
        if ours is not None and theirs is not None and _is_clock(ours, theirs):
            left_out.clocks[name] += 1
            continue
        return [Unlike(name, f"line {number + 1}", _show(ours), _show(theirs))]
    return []


def _differing_lines(one: Path, two: Path) -> set[int] | None:
    """Numbers of the lines that differ in more than times; None if these are no texts of as many lines."""
    ours, theirs = _lines(one), _lines(two)
    if ours is None or theirs is None or len(ours) != len(theirs):
        return None
    pairs = enumerate(zip(ours, theirs, strict=True))
    return {number for number, (a, b) in pairs if a != b and not _is_clock(a, b)}


def _is_clock(one: bytes, two: bytes) -> bool:
    """The lines differ in nothing but times."""
    return _CLOCK.sub(b"", one) == _CLOCK.sub(b"", two)


def _lines(path: Path) -> list[bytes] | None:
    """The lines of a text; None for what is no text, or too long to be looked at so."""
    if path.stat().st_size > TEXT_BYTES:
        return None
    data = path.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return None if b"\0" in data else data.splitlines(keepends=True)


def _first_byte(one: Path, two: Path) -> int:
    place = 0
    with open(one, "rb") as ours, open(two, "rb") as theirs:
        while True:
            a, b = ours.read(1 << 20), theirs.read(1 << 20)
            if a != b or not a:
                common = zip(a, b, strict=False)
                return place + next((i for i, (x, y) in enumerate(common) if x != y), min(len(a), len(b)))
            place += len(a)


def _show(line: bytes | None) -> str:
    if line is None:
        return "nothing"
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    return text if len(text) <= 120 else text[:117] + "..."

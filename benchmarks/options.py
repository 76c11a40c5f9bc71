"""The flags that the benchmarks of a state have in common."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def parse_size(text: str) -> int:
    """Bytes of 64M or 1G (powers of 1024); raises ValueError, which click turns into a sentence."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)B?", text.upper())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{text!r} is no size: write 64M or 1G")
    return int(float(match[1]) * _UNITS[match[2]])


def common(*, size: str, tensors: int, repeat: int) -> Callable[[_Function], _Function]:
    """--size, --tensors and those of ``output``."""

    def add(function: _Function) -> _Function:
        for option in (
            click.option(
                "--tensors",
                type=click.IntRange(min=1),
                default=tensors,
                show_default=True,
                help="In so many.",
            ),
            click.option(
                "--size",
                type=parse_size,
                metavar="SIZE",
                default=size,
                show_default=True,
                help="Of the state.",
            ),
        ):
            function = option(function)
        return function

    add_output = output(repeat)
    return lambda function: add(add_output(function))


def output(repeat: int) -> Callable[[_Function], _Function]:
    """--repeat, --folder, --json and --keep."""

    def add(function: _Function) -> _Function:
        for option in (
            click.option(
                "--keep/--no-keep", default=True, show_default=True,
                help="Write the result and its picture to benchmarks/results/.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
            click.option(
                "--folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
                help="On the disk to be measured.  [default: where temporary files go]",
            ),
            click.option(
                "--repeat", type=click.IntRange(min=1), default=repeat, show_default=True, help="Rounds."
            ),
        ):  # fmt: skip
            function = option(function)
        return function

    return add

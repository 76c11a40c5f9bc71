"""The words ``--keep-...``, the same for ``run`` and ``forget``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ckptd.errors import UsageError
from ckptd.settings import Every, parse_duration, parse_every
from ckptd.store.retention import Best, Policy

_BEST = re.compile(r"(\d+)(?::([A-Za-z_][A-Za-z0-9_]*))?(?::(max|min))?")
Command = TypeVar("Command", bound=Callable[..., Any])


def keep_options(command: Command) -> Command:
    """Give a command the flags; they arrive as ``keep_...`` and are for ``policy_of``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def policy_of(
    *, keep_last: int | None, keep_every: str | None, keep_hourly: int, keep_within: str | None,
    keep_best: tuple[str, ...], keep_tag: tuple[str, ...], default_last: int = 0,
) -> Policy:  # fmt: skip
    """The flags, understood. Raises UsageError."""
    every = _every(keep_every) if keep_every else None
    within = parse_duration(keep_within) if keep_within else 0.0
    if keep_within and within <= 0:
        raise UsageError(f"--keep-within {keep_within}: must be more than nothing")
    for tag in keep_tag:
        if not tag:
            raise UsageError("--keep-tag is empty: name a tag, as given by ckptd pin --tag")
    return Policy(
        last=default_last if keep_last is None else keep_last,
        every_steps=every.steps if every else 0,
        every_seconds=every.seconds if every else 0.0,
        hourly=keep_hourly,
        within=within,
        best=tuple(_best(text) for text in keep_best),
        tags=keep_tag,
    )


def _every(text: str) -> Every:
    try:
        every = parse_every(text)
    except UsageError:
        every = Every()
    if not every.steps and every.seconds <= 0:
        raise UsageError(f"--keep-every {text}: write 1000steps or 6h")
    return every


def _best(text: str) -> Best:
    match = _BEST.fullmatch(text)
    if match is None or int(match[1]) < 1:
        raise UsageError(f"--keep-best {text}: write 3, 3:loss_mean, or 3:NAME:max where more is better")
    return Best(int(match[1]), match[2] or "loss", match[3] == "max")


_OPTIONS = [
    click.option(
        "--keep-last", envvar="CKPTD_KEEP_LAST", type=click.IntRange(min=1), metavar="N",
        help="Keep the newest N checkpoints.",
    ),
    click.option(
        "--keep-every", envvar="CKPTD_KEEP_EVERY", metavar="1000steps|6h",
        help="Keep the first in each stretch of so many steps, or of so much time.",
    ),
    click.option(
        "--keep-hourly", envvar="CKPTD_KEEP_HOURLY", type=click.IntRange(min=0), default=0, metavar="N",
        help="Keep the newest of each of the last N hours that have any.",
    ),
    click.option(
        "--keep-within", envvar="CKPTD_KEEP_WITHIN", metavar="2d",
        help="Keep all that are at most so much older than the newest.",
    ),
    click.option(
        "--keep-best", envvar="CKPTD_KEEP_BEST", multiple=True, metavar="N[:METRIC]",
        help="Keep the N with the lowest loss, or other figure; N:METRIC:max for the highest.",
    ),
    click.option(
        "--keep-tag", envvar="CKPTD_KEEP_TAG", multiple=True, metavar="TAG",
        help="Keep those that 'ckptd pin --tag' has given this tag.",
    ),
]  # fmt: skip

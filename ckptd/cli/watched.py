"""Options of those who run on their own, and are watched by programs: ``ckptd run`` and ``ckptd daemon``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ckptd.settings import LOG_FORMATS

Command = TypeVar("Command", bound=Callable[..., Any])


def log_format_option(command: Command) -> Command:
    """``--log-format plain|json``."""
    return click.option(
        "--log-format", envvar="CKPTD_LOG_FORMAT", type=click.Choice(LOG_FORMATS), default="plain",
        show_default=True,
        help="What ckptd itself says: sentences (with fields, in systemd's journal), or a line of JSON for each.",
    )(command)  # fmt: skip

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


def metrics_option(command: Command) -> Command:
    """``--metrics-port N``."""
    return click.option(
        "--metrics-port", envvar="CKPTD_METRICS_PORT", type=click.IntRange(0, 65535), metavar="N",
        help="Serve figures for Prometheus at http://127.0.0.1:N/metrics; 0: any port (pip install 'ckptd[metrics]').",
    )(command)  # fmt: skip

"""Options of those who run on their own, and are watched by programs: ``ckptd run`` and ``ckptd daemon``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ckptd.errors import UsageError
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


def notices_options(command: Command) -> Command:
    """``--notices SOURCES`` and ``--azure-ack``."""
    command = click.option(
        "--azure-ack", envvar="CKPTD_AZURE_ACK", is_flag=True,
        help="Tell Azure that it may go ahead once all is saved (for all machines that the event names).",
    )(command)  # fmt: skip
    return click.option(
        "--notices", envvar="CKPTD_NOTICES", default="auto", show_default=True, metavar="SOURCES",
        help="Who is listened to for notices that this machine goes away: aws, gcp, azure, alibaba, slurm, logind, "
        "file:PATH or a plug-in, joined by commas; 'auto': what this machine says it is; 'none'.",
    )(command)  # fmt: skip


def voice_options(command: Command) -> Command:
    """``-q`` and ``-v``; they arrive as ``quiet`` and ``verbose`` and are for ``verbosity_of``."""
    command = click.option("-v", "--verbose", envvar="CKPTD_VERBOSE", is_flag=True, help="Say more.")(command)
    return click.option("-q", "--quiet", envvar="CKPTD_QUIET", is_flag=True, help="Say nothing but errors.")(
        command
    )


def verbosity_of(*, quiet: bool, verbose: bool) -> int:
    """-1, 0 or 1, as ckptd.daemon.voice has it. Raises UsageError."""
    if quiet and verbose:
        raise UsageError("-q and -v contradict each other")
    return -1 if quiet else int(verbose)

"""``ckptd run``: a job under supervision, in the foreground."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ckptd.cli.keep import keep_options, policy_of
from ckptd.cli.watched import (
    log_format_option,
    metrics_option,
    notices_options,
    verbosity_of,
    voice_options,
)
from ckptd.errors import UsageError
from ckptd.settings import (
    KEPT,
    ON_NOTICE,
    Settings,
    parse_duration,
    parse_every,
    parse_packages,
    parse_signals,
)
from ckptd.store.compress import available

KEEP_LAST = 3
"""How many checkpoints stay where --keep-last says nothing."""


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option(
    "--name",
    envvar="CKPTD_NAME",
    default="",
    metavar="NAME",
    help="What the job is called. Without it a job is known by its command and folder.",
)
@click.option(
    "--store",
    envvar="CKPTD_STORE",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where checkpoints are kept.  [default: $CKPTD_STORE, else ~/.local/state/ckptd]",
)
@click.option(
    "--every",
    envvar="CKPTD_EVERY",
    default="auto",
    show_default=True,
    metavar="10m|500steps|auto|never",
    help="Also save this often, so that a crash or SIGKILL loses no more. 'auto': from a minute on, and so seldom that "
    "training stands still for half a percent of its time at most.",
)
@click.option(
    "--grace",
    envvar="CKPTD_GRACE",
    default="25s",
    show_default=True,
    metavar="TIME",
    help="From a notice to the moment when the process must be gone.",
)
@click.option(
    "--max-restarts",
    envvar="CKPTD_MAX_RESTARTS",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Relaunches after the job died by itself, without progress in between.",
)
@click.option(
    "--restart-delay",
    envvar="CKPTD_RESTART_DELAY",
    default="1s",
    show_default=True,
    metavar="TIME",
    help="Before the first such relaunch; it doubles each time, up to a minute.",
)
@keep_options
@click.option(
    "--remote",
    envvar="CKPTD_REMOTE",
    default="",
    metavar="URL",
    help="Also keep checkpoints at s3://bucket/folder or file:///share/folder. A job goes on with the remote that it "
    "was begun with; 'none' ends that.",
)
@click.option(
    "--lease",
    envvar="CKPTD_LEASE",
    default="2m",
    show_default=True,
    metavar="TIME",
    help="After this, another machine may take the job over from one that is not heard of.",
)
@click.option(
    "--compress",
    envvar="CKPTD_COMPRESS",
    is_flag=True,
    help="Compress tensors where they get smaller (zstd: pip install 'ckptd[fast]').",
)
@click.option(
    "--notice-signals",
    envvar="CKPTD_NOTICE_SIGNALS",
    default="TERM",
    show_default=True,
    metavar="TERM,USR2",
    help="Signals that mean: save and leave.",
)
@click.option(
    "--from",
    "from_step",
    envvar="CKPTD_FROM",
    type=click.IntRange(min=0),
    metavar="STEP",
    help="Go on from the checkpoint at this step instead of the newest.",
)
@click.option("--fresh", envvar="CKPTD_FRESH", is_flag=True, help="Start over, whatever there is to resume.")
@click.option(
    "--allow-changed",
    envvar="CKPTD_ALLOW_CHANGED",
    is_flag=True,
    help="Resume though the sources changed since the checkpoint.",
)
@click.option(
    "--instrument",
    envvar="CKPTD_INSTRUMENT",
    multiple=True,
    metavar="PACKAGE",
    help="An installed package whose loops train, followed as if it were the program's own. May be repeated.",
)
@click.option(
    "--remade",
    envvar="CKPTD_REMADE",
    multiple=True,
    metavar="TYPE",
    help="A type (module.Name) whose objects can't be read, but always are as the program makes them. Repeatable.",
)
@notices_options
@click.option(
    "--on-notice",
    envvar="CKPTD_ON_NOTICE",
    type=click.Choice(ON_NOTICE),
    default="auto",
    show_default=True,
    help="late: save at once, train on, save again as late as is safe, exit 75. leave: save, exit 75. stay: save and "
    "go on. relaunch: save and start again. 'auto': late if the machine goes, else stay.",
)
@log_format_option
@metrics_option
@click.option("-d", "--detach", is_flag=True, help="Have the daemon run it, and return at once.")
@voice_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD...")
def run(
    name: str, store: Path | None, every: str, grace: str, max_restarts: int, restart_delay: str,
    remote: str, lease: str, compress: bool, notice_signals: str, from_step: int | None, fresh: bool,
    allow_changed: bool, instrument: tuple[str, ...], remade: tuple[str, ...], notices: str, on_notice: str,
    azure_ack: bool, log_format: str, metrics_port: int | None, detach: bool, quiet: bool, verbose: bool,
    command: tuple[str, ...], **keep: Any,
) -> int:  # fmt: skip
    """Run CMD; save it when it is told to end, and go on from there.

    SIGTERM to the training process: it is saved, relaunched and resumed. SIGTERM or Ctrl-C to ckptd: it is
    saved and stopped (exit status 75); the same command goes on. Checkpoints stay by the --keep flags: the
    newest 3 if --keep-last says nothing else. Each flag also has a variable, CKPTD_NAME and so on.
    """
    if not command:
        raise UsageError("no command to run: ckptd run [FLAGS] -- python train.py")
    verbosity = verbosity_of(quiet=quiet, verbose=verbose)
    if fresh and from_step is not None:
        raise UsageError("--fresh and --from contradict each other: give one of them")
    if compress and not available():
        raise UsageError("--compress needs the package zstandard: pip install 'ckptd[fast]'")
    policy = policy_of(**keep, default_last=KEEP_LAST)
    settings = Settings(
        name=name,
        every=parse_every(every),
        grace=_positive("--grace", grace),
        max_restarts=max_restarts,
        restart_delay=parse_duration(restart_delay),
        from_step=from_step,
        squeeze=compress,
        notice_signals=parse_signals(notice_signals),
        fresh=fresh,
        allow_changed=allow_changed,
        verbosity=verbosity,
        log_format=log_format,
        metrics_port=metrics_port,
        remote=_remote(remote),
        lease=_positive("--lease", lease),
        instrument=parse_packages(instrument),
        remade=tuple(word for text in remade for word in text.replace(",", " ").split()),
        notices=notices,
        on_notice=on_notice,
        azure_ack=azure_ack,
        kept=KEPT in os.environ,
    )
    if detach:
        from ckptd.cli.detach import detach_job

        return detach_job(command, settings, store)
    # Here, so that a mistake in the flags is told at once.
    from ckptd.daemon.start import run_job
    from ckptd.store.layout import default_store

    return run_job(command, settings, store or default_store(), policy)


def _remote(url: str) -> str:
    if url and url != "none":
        from ckptd.remote.backend import check_url

        check_url(url)
    return url


def _positive(flag: str, text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise UsageError(f"{flag} {text}: must be more than nothing")
    return seconds

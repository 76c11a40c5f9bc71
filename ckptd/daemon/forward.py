"""Signals that ckptd gets in the job's place, and hands on to it."""

from __future__ import annotations

import signal

from ckptd.daemon import processes

TO_GROUP = frozenset({signal.SIGQUIT, signal.SIGWINCH, signal.SIGTSTP, signal.SIGINT})
"""The terminal sends these to the whole foreground group, where ckptd stands for the job."""
TO_PROCESS = frozenset({signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP})
ALL = TO_GROUP | TO_PROCESS


def hand_on(pid: int, number: int) -> None:
    """Send a signal on to the job, whose main process (and process group) is ``pid``."""
    if number in TO_GROUP:
        processes.send_group(pid, number)
    else:
        processes.send(pid, number)

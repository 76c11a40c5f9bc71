"""Who has the terminal: ckptd or the job. What a shell does for its foreground job, for one job.

The job is in a process group of its own and ckptd keeps the terminal's foreground, so that Ctrl-C means
"save and stop" to ckptd and doesn't reach the program. A program that reads the terminal is stopped by
the kernel (SIGTTIN) for that; it is then given the terminal, and keeps it until it ends or is suspended.
"""

from __future__ import annotations

import os
import signal

_TERMINAL_STOPS = frozenset({signal.SIGTTIN, signal.SIGTTOU})


class Terminal:
    """The controlling terminal, if there is one. All methods do nothing without."""

    def __init__(self) -> None:
        self._fd: int | None = None
        self._job = 0
        self.lent = False
        """The job has it, or is to have it back when ckptd is in the foreground again."""
        try:
            self._fd = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError:
            return  # no controlling terminal: a service, a batch job

    @property
    def present(self) -> bool:
        """Whether there is a controlling terminal."""
        return self._fd is not None

    def begin(self, group: int) -> None:
        """A new attempt, in a new process group."""
        self._job = group
        self.lent = False

    def stopped(self, number: int) -> bool:
        """The job was stopped by a signal. True if ckptd should stop too, as one job to the shell."""
        if self._fd is None:
            return False
        if number in _TERMINAL_STOPS:
            self.lent = True
            return not self._lend()
        if number == signal.SIGTSTP and self.lent:
            self.take_back()
            return True
        return False

    def continued(self) -> None:
        """ckptd was stopped and goes on: so does the job, in the foreground if that is where it was."""
        if self.lent and self._lend():
            return
        try:
            os.killpg(self._job, signal.SIGCONT)
        except (ProcessLookupError, PermissionError):
            return  # it has ended meanwhile

    def _lend(self) -> bool:
        """Give the terminal to the job and let it go on; False if it isn't ours to give."""
        if self._fd is None or self._job == 0:
            return False
        try:
            if os.tcgetpgrp(self._fd) not in (os.getpgrp(), self._job):
                return False
            os.tcsetpgrp(self._fd, self._job)
            os.killpg(self._job, signal.SIGCONT)
        except OSError:
            return False  # the terminal hung up, or the job has ended
        return True

    def take_back(self) -> None:
        """Put ckptd into the foreground again, if the job is there."""
        if self._fd is None:
            return
        try:
            if os.tcgetpgrp(self._fd) == self._job:
                os.tcsetpgrp(self._fd, os.getpgrp())  # SIGTTOU is blocked in ckptd, so this can't stop it
        except OSError:
            return  # the terminal hung up

    def close(self) -> None:
        """Take it back for good."""
        self.take_back()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

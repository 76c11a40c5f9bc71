"""What ckptd itself says to the user: few lines, on stderr, never in the way of the job."""

from __future__ import annotations

import os
import select

STDERR = 2
_MAX = 4000
"""Bytes; a pipe that is reported writable takes this much without blocking (PIPE_BUF is 4096)."""
_PATIENCE = 0.2
"""Seconds. A terminal counts as full while another process is in the middle of a line, which on a busy machine takes
a while: that is no reason to lose ours."""


class Voice:
    """Lines with the prefix ``ckptd: ``."""

    def __init__(self, verbosity: int = 0, fd: int = STDERR) -> None:
        """``verbosity``: -1 silent, 0 what matters, 1 everything."""
        self._verbosity = verbosity
        self._fd = fd
        self._patience = _PATIENCE

    def say(self, text: str) -> None:
        """Something that matters to the user."""
        if self._verbosity >= 0:
            self._write(text)

    def detail(self, text: str) -> None:
        """Something for those who asked for more (-v)."""
        if self._verbosity >= 1:
            self._write(text)

    def _write(self, text: str) -> None:
        # Names and sentences come from elsewhere too: no control characters for the terminal.
        clean = "".join(letter if letter.isprintable() else " " for letter in text)
        line = f"ckptd: {clean}".encode("utf-8", "replace")[:_MAX] + b"\n"
        try:
            # A reader of our stderr that has stopped reading must not stop the supervisor: it is waited for once.
            taken = bool(select.select([], [self._fd], [], self._patience)[1])
            self._patience = _PATIENCE if taken else 0.0
            if taken:
                os.write(self._fd, line)
        except (OSError, ValueError):
            return  # stderr is closed or its reader gone: nobody listens

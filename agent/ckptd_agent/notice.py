"""Whether somebody would save the training process now, and whether a notice stands: a page that helpers read.

Written in the training process, read by the signal handler of its workers (ckptd_agent.shield). Also which signals
are notices.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from time import monotonic_ns

NAME = "ckptd-notice"
VARIABLE = "CKPTD_NOTICE_PAGE"
"""Number of the page's descriptor in the process that CKPTD_CLAIMED names."""
NOBODY, WATCHED, PENDING = 0, 1, 2
"""No supervisor; there is one; a notice has come and has not had its effect."""
SIZE = mmap.PAGESIZE
_WORD = struct.Struct("=q")


class _Page:
    def __init__(self) -> None:
        self.map: mmap.mmap | None = None
        self.fd = -1
        self.standing = False
        self.given_up = False
        """A notice has the effect that it has without ckptd."""


_page = _Page()


def signal_numbers() -> list[int]:
    """The notice signals."""
    words = os.environ.get("CKPTD_NOTICE_SIGNALS", "TERM").split(",")
    names = ["SIG" + word.strip().upper().removeprefix("SIG") for word in words]
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]


def begin() -> mmap.mmap:
    """Make the page, for this process and those that it starts. Raises OSError."""
    _page.fd = os.memfd_create(NAME, os.MFD_CLOEXEC)
    os.ftruncate(_page.fd, SIZE)
    found = _page.map = mmap.mmap(_page.fd, SIZE)
    _write(0, os.getpid())
    os.environ[VARIABLE] = str(_page.fd)
    return found


def forget() -> mmap.mmap | None:
    """In a forked child: the page is the parent's, to be read only. None: it has none."""
    found = _page.map
    if _page.fd >= 0:
        os.close(_page.fd)
    _page.__init__()  # type: ignore[misc]
    return found


def linked(up: bool) -> None:
    """Whether there is a supervisor."""
    if not up or _page.given_up:
        _write(1, NOBODY)
    else:
        _write(1, PENDING if _page.standing else WATCHED)


def stands() -> None:
    """A notice has come, or the supervisor has asked the process to save and leave."""
    _page.standing, _page.given_up = True, False
    _write(2, monotonic_ns())
    _write(1, PENDING)


def over() -> None:
    """It came to nothing, and training goes on."""
    _page.standing = False
    _write(1, WATCHED)


def give_up() -> None:
    """The signal has the effect that it has without ckptd, here and in the helpers."""
    _page.standing, _page.given_up = False, True
    _write(1, NOBODY)


def _write(word: int, value: int) -> None:
    if _page.map is not None:
        _page.map[8 * word : 8 * word + 8] = _WORD.pack(value)

"""What ckptd itself says to the user: few lines, on stderr, never in the way of the job."""

from __future__ import annotations

import os
import select
import time
from typing import Any

from ckptd.daemon import forms

STDERR = 2
_PATIENCE = 0.2
"""Seconds. A terminal counts as full while another process is in the middle of a line, which on a busy machine takes
a while: that is no reason to lose ours."""
_TOLD = frozenset({"uploaded", "exited", "over"})
"""News without a sentence that programs want to read; of the others they have a sentence, or ask for it (-v)."""
_SAID = frozenset(
    {"notice", "withdrawn", "copied", "durable", "unsaved", "spawned", "adopted", "hello", "resumed"}
)
"""News of which there is a sentence."""


class Voice:
    """Lines with the prefix ``ckptd: ``, or what else ``form`` makes of them."""

    def __init__(
        self, verbosity: int = 0, fd: int = STDERR, form: str = forms.PLAIN, journal: str = forms.SOCKET
    ) -> None:
        """``verbosity``: -1 silent, 0 what matters, 1 everything; ``form``: see ckptd.daemon.forms."""
        self._verbosity = verbosity
        self._fd = fd
        self._form = form
        self._journal = journal
        self._patience = _PATIENCE
        self.about: dict[str, str] = {}
        """Id and name of the job that is spoken of, once they are known."""

    @property
    def structured(self) -> bool:
        """Programs read it."""
        return self._form in (forms.JSON, forms.JOURNAL)

    def say(self, text: str, event: str = "", /, **fields: Any) -> None:
        """Something that matters to the user. ``event`` and ``fields``: the same for programs."""
        if self._verbosity >= 0:
            self._tell(forms.INFO, text, event, fields)

    def warn(self, text: str, event: str = "", /, **fields: Any) -> None:
        """Something that is not as it should be."""
        if self._verbosity >= 0:
            self._tell(forms.WARNING, text, event, fields)

    def detail(self, text: str, event: str = "", /, **fields: Any) -> None:
        """Something for those who asked for more (-v)."""
        if self._verbosity >= 1:
            self._tell(forms.DEBUG, text, event, fields)

    def fail(self, text: str, status: int) -> None:
        """The one line of an error, however quiet we are."""
        self._tell(forms.ERROR, text, "failed", {"status": status})

    def hear(self, name: str, at: float, facts: dict[str, Any]) -> None:
        """News (ckptd.daemon.news) for programs, where there is no sentence for people."""
        if not self.structured or name in _SAID:
            return
        words = ", ".join(f"{key} {value}" for key, value in facts.items())
        (self.say if name in _TOLD else self.detail)(f"{name}: {words}", name, **facts)

    def _tell(self, level: str, text: str, event: str, fields: dict[str, Any]) -> None:
        entry = forms.Entry(time.time(), level, text, event, fields)
        if self._form == forms.JOURNAL and forms.send(forms.datagram(entry, self.about), self._journal):
            return
        try:
            # A reader of our stderr that has stopped reading must not stop the supervisor: it is waited for once.
            taken = bool(select.select([], [self._fd], [], self._patience)[1])
            self._patience = _PATIENCE if taken else 0.0
            if taken:
                os.write(self._fd, forms.line(self._form, entry, self.about))
        except (OSError, ValueError):
            return  # stderr is closed or its reader gone: nobody listens

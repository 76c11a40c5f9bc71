"""Listens to all sources at once, each in a thread of its own, so that none is kept waiting by another."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import replace

from ckptd.notices.event import KINDS, Health, Notice, Over, Source, Unheard

AGAIN = 1.0
"""Seconds after which a source that failed is called again."""
TOLERANCE = 2.0
"""Seconds that a deadline may move and still be the same: times come in whole seconds, and so do servers' clocks."""
CLOSING = 2.0
"""Seconds that ``close`` waits for sources at most."""
_LONGEST = 300
"""Letters of what is said of a source that failed."""
_BAD = {"ok": 0, "starting": 1, "trouble": 2}


class Watch:
    """What the sources hear, for one event loop."""

    def __init__(self, sources: Iterable[Source]) -> None:
        """Begin to listen."""
        self.sources = tuple(sources)
        self._guard = threading.Lock()
        self._heard: list[Notice] = []
        self._last: dict[tuple[str, str], Notice] = {}
        self._closed = False
        self._over = Over()
        self._out, self._in = os.pipe()
        os.set_blocking(self._out, False)
        os.set_blocking(self._in, False)
        self._ears = [_SourceEars(self, source) for source in self.sources]
        self._threads = [
            threading.Thread(target=ears.listen, args=(self._over,), name=f"notices-{ears.name}", daemon=True)
            for ears in self._ears
        ]
        # Threads begin with the mask of the one that starts them: no signal ever arrives in theirs.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            for thread in self._threads:
                thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def fileno(self) -> int:
        """Readable when ``read`` has something to give."""
        return self._out

    def read(self) -> list[Notice]:
        """What is new since the last call, in the order in which it was heard; never waits."""
        with self._guard:
            if not self._closed:
                try:
                    os.read(self._out, 65536)
                except BlockingIOError:
                    pass  # nothing was heard
            heard, self._heard = self._heard, []
            return heard

    def health(self) -> list[Health]:
        """How each source fares; one that listens in several places fares as the worst of them."""
        found: dict[str, list[Health]] = {}
        for ears in self._ears:
            found.setdefault(ears.name, []).append(ears.health())
        return [_together(each) for each in found.values()]

    def close(self, seconds: float = CLOSING) -> None:
        """End all sources, waiting for them so long at most; what hangs is left to the end of the process."""
        self._over.set()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._guard:
            if self._closed:
                return
            self._closed = True
            os.close(self._out)
            os.close(self._in)
        if not any(thread.is_alive() for thread in self._threads):
            self._over.close()

    def _hear(self, notice: Notice) -> None:
        key = (notice.source, notice.id)
        with self._guard:
            if self._closed or not _is_new(self._last.get(key), notice):
                return
            self._last[key] = notice
            self._heard.append(notice)
            try:
                os.write(self._in, b"!")
            except BlockingIOError:
                pass  # it is readable, which is all that is wanted


def _is_new(last: Notice | None, notice: Notice) -> bool:
    if last is None or last.withdrawn:
        return not notice.withdrawn
    if notice.withdrawn or last.kind != notice.kind:
        return True
    if last.deadline is None or notice.deadline is None:
        return last.deadline is not notice.deadline
    if max(last.deadline, notice.deadline) <= time.monotonic():
        return False  # both have passed
    return abs(last.deadline - notice.deadline) > TOLERANCE


def _together(found: list[Health]) -> Health:
    worst = max(found, key=lambda each: _BAD[each.state])
    times = [each.answered for each in found if each.answered is not None]
    text = "; ".join(dict.fromkeys(each.text for each in found if each.text))
    return replace(worst, text=text, answered=max(times, default=None))


class _SourceEars:
    """One source: what it tells, how it fares, and its thread."""

    def __init__(self, watch: Watch, source: Source) -> None:
        self.name = source.name
        self._watch, self._source = watch, source
        self._guard = threading.Lock()
        self._health = Health(source.name, "starting", "", None)

    def tell(self, notice: Notice) -> None:
        """See ckptd.notices.event.Ears."""
        if not isinstance(notice, Notice) or notice.kind not in KINDS or not isinstance(notice.id, str):
            raise ValueError(f"{notice!r} is no notice")
        if notice.deadline is not None and not isinstance(notice.deadline, int | float):
            raise ValueError(f"{notice.deadline!r} is no deadline")
        self._watch._hear(replace(notice, source=self.name))

    def well(self) -> None:
        """See ckptd.notices.event.Ears."""
        with self._guard:
            self._health = Health(self.name, "ok", "", time.time())

    def trouble(self, text: str) -> None:
        """See ckptd.notices.event.Ears."""
        line = " ".join(text.split())
        with self._guard:
            line = line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
            self._health = Health(self.name, "trouble", line, self._health.answered)

    def health(self) -> Health:
        """As of now."""
        with self._guard:
            return self._health

    def listen(self, over: Over) -> None:
        """The thread: calls the source again and again until it is over."""
        while not over.is_set():
            try:
                self._source.watch(self, over)
                said = "stopped listening by itself"
            except BaseException as error:  # noqa: BLE001 - whatever it is, the other sources and the job go on
                said = _words(error)
            if over.wait(0):
                return
            self.trouble(said)
            over.wait(AGAIN)


def _words(error: BaseException) -> str:
    """What is said of a failure: the sentence of those that are meant for people, others with their kind."""
    if isinstance(error, Unheard):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
